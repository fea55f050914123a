"""Frames at the ends of what they can be, and weights that are not finite, through ``rirn deblur``."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rirn
from rirn.cli import main
from rirn.data import list_images, read_image, write_png
from rirn.weights import shipped

HEIGHT, WIDTH = 24, 32
CHECKS = np.indices((HEIGHT, WIDTH)).sum(0) % 2 * 255
FRAMES = {
    "black": np.zeros((HEIGHT, WIDTH)),
    "white": np.full((HEIGHT, WIDTH), 255),
    "checks": CHECKS,
}
LEVELS = {"black": 12, "white": 12, "checks": 255}
"""How far a pixel may move, of 255 levels: flat frames hold nothing to restore, a checkerboard may come out as anything."""


def folder(path, frame, count=4):
    path.mkdir()
    for i in range(count):
        write_png(path / f"{i}.png", np.repeat(frame.astype(np.uint8)[..., None], 3, 2))
    return path


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("weights", sorted(shipped()))
def test_black_and_saturated_frames(weights, name, tmp_path):
    source = folder(tmp_path / "in", FRAMES[name])
    assert main(["deblur", str(source), str(tmp_path / "out"), "--model", weights]) == 0
    results = [read_image(path).astype(int) for path in list_images(tmp_path / "out")]
    assert len(results) == 4
    for result in results:
        assert np.abs(result - FRAMES[name][..., None]).max() <= LEVELS[name]


@pytest.mark.parametrize("value", (torch.nan, torch.inf))
def test_weights_that_are_not_finite_are_an_error(value, tmp_path, capsys):
    model = rirn.create_model("gru", width=0.1)
    with torch.no_grad():
        next(model.parameters()).fill_(value)
    rirn.save_weights(model, tmp_path / "bad.safetensors")
    source = folder(tmp_path / "in", CHECKS)
    argv = ["deblur", str(source), str(tmp_path / "out"), "--model", str(tmp_path / "bad.safetensors")]
    assert main(argv) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "not finite for frame 0" in line and "check the weights" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.safetensors", "in"]


def test_a_frame_that_is_not_finite_spoils_the_state_until_it_is_dropped():
    """What a caller of ``step`` sees, as files hold no such frames: the frame, and all after it with the same state."""
    model = rirn.load("rirn-tiny")  # whose image comes with its frame
    frame = torch.full((1, 3, HEIGHT, WIDTH), 0.5)
    bad = frame.clone()
    bad[0, 0, 10, 10] = torch.nan
    with torch.inference_mode():
        _, state = model.step(frame, None)
        sharp, spoilt = model.step(bad, state)
        assert sharp.isnan().any()
        assert model.step(frame, spoilt)[0].isnan().any()
        assert model.step(frame, state)[0].isfinite().all()
        assert model.step(frame, None)[0].isfinite().all()
