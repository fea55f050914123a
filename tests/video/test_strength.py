"""How much of what a residual network adds to its input is kept."""

import numpy as np
import pytest
import torch

import rirn
from rirn.cli import main
from rirn.errors import RirnError
from rirn.models import create_model
from rirn.video import Reader, deblur
from tests.video.clips import Identity, picture, write_clip


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    model = create_model("ifi-rnn+rirn", width=0.2, residual=True, future=1).eval()
    torch.nn.init.normal_(model.base.output_layer.weight, std=0.02)
    return model


@pytest.fixture
def frames():
    return [picture(64, 48, i) for i in range(4)]


def restored(network, frames, strength):
    return np.stack(list(rirn.stream(frames, network, strength=strength))).astype(int)


def test_strength_scales_the_difference_to_the_input(network, frames):
    given, full = np.stack(frames).astype(int), restored(network, frames, 1.0)
    assert np.abs(full - given).mean() > 1
    assert np.array_equal(restored(network, frames, 0.0), given)
    inside = (np.minimum(full, given) > 20) & (np.maximum(full, given) < 235)  # not clipped, at 1.5 either
    for strength in (0.5, 1.5):
        expected = given + strength * (full - given)
        assert np.abs(restored(network, frames, strength) - expected)[inside].max() <= 1.5
    assert np.array_equal(restored(network, frames, 1.0), full)  # nothing is left of the run before


@pytest.mark.parametrize("strength", [-0.1, 1.6, float("nan")])
def test_other_strengths_are_refused(network, frames, strength):
    with pytest.raises(RirnError, match=r"strength must lie between 0 and 1\.5; got"):
        restored(network, frames, strength)


def test_only_residual_networks_have_one(frames, tmp_path):
    plain = create_model("ifi-rnn", width=0.2).eval()
    with pytest.raises(RirnError, match=r"residual=False.*leave the strength at 1"):
        restored(plain, frames, 0.5)
    restored(plain, frames, 1.0)
    with pytest.raises(RirnError, match="leave the strength at 1"):
        deblur(Identity(), write_clip(tmp_path / "in.mp4", 3), tmp_path / "out.mp4", strength=0.5)
    assert not (tmp_path / "out.mp4").exists()


def test_the_command_and_what_a_resumed_run_compares(network, tmp_path, capsys):
    clip, weights = (
        write_clip(tmp_path / "in.mkv", 4, codec="ffv1", pix_fmt="bgr0"),
        tmp_path / "w.safetensors",
    )
    rirn.save_weights(network, weights)
    command = ["deblur", str(clip), "--model", str(weights), "--device", "cpu"]
    assert main(["deblur", str(clip), str(tmp_path / "none"), *command[2:], "--strength", "0"]) == 0
    with Reader(clip) as reader:
        given = [frame.rgb for frame in reader]
    with Reader(tmp_path / "none") as reader:
        assert all(np.array_equal(a.rgb, b) for a, b in zip(reader, given, strict=True))

    class Stopped(torch.nn.Module):
        residual, delay, steps = True, 0, 0

        def step(self, frame, state):
            if self.steps == 2:
                raise KeyboardInterrupt
            self.steps += 1
            return frame, state

    target = tmp_path / "out.mkv"
    with pytest.raises(KeyboardInterrupt):
        deblur(Stopped(), clip, target, strength=0.5, progress=False)
    with pytest.raises(RirnError, match="strength"):
        deblur(Stopped(), clip, target, strength=0.7, progress=False, resume=True)
