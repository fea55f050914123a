"""Networks that work on frames of half the size and enlarge what they add to their input."""

import pytest
import torch
import torch.nn.functional as F

from rirn import RirnError, create_model, load
from rirn.video.tiles import Tiled
from rirn.weights.files import save_weights
from tests.models.cases import small, video
from tests.models.test_behaviour import EXACT, FEW, assert_equal, stepped


def halved(name, **options):
    """A model at half resolution that adds something, as a fresh residual one does not."""
    model = small(name, residual=True, half_resolution=True, **options)
    torch.nn.init.normal_(model.base.output_layer.weight, std=0.05)
    return model


@pytest.mark.parametrize("size", [(16, 24), (9, 13), (1, 1)])
def test_it_adds_the_enlarged_difference_of_the_same_network_at_half_the_size(size):
    model = halved("ifi-rnn+rirn")
    whole = small("ifi-rnn+rirn", residual=True)
    whole.load_state_dict(model.state_dict())
    clip = video(1, 3, 3, *size)
    bottom, right = (-side % 8 for side in size)
    padded = F.pad(clip[0], (0, right, 0, bottom), mode="replicate")
    shrunk = F.avg_pool2d(padded, 2)
    added = F.interpolate(whole(shrunk[None])[0] - shrunk, scale_factor=2, mode="bilinear")
    assert added.abs().max() > 0.01
    assert_equal(model(clip)[0], (padded + added)[..., : size[0], : size[1]])


@pytest.mark.parametrize("name", FEW)
def test_steps_equal_the_whole_clip(name):
    model = halved(name)
    clip = video(2, 4, 3, 10, 13)
    restored, states = stepped(model, clip)
    assert (restored - clip).abs().max() > 0.001
    assert_equal(restored, model(clip))
    with pytest.raises(ValueError, match="does not fit frames"):
        model.step(video(2, 3, 40, 13), states[-1])


@pytest.mark.parametrize(("past", "future"), [(2, 2), (1, 0), (0, 1)])
def test_frames_around_are_kept_as_the_network_sees_them(past, future):
    model = halved("ifi-rnn+rirn", past=past, future=future)
    clip = video(2, 5, 3, 10, 13)
    restored, states = stepped(model, clip)
    assert_equal(restored, model(clip))
    assert [list(t.shape) for t in states[-1].frames] == [
        [2, 3, 10, 13]
    ] * future  # what their images are added to
    assert [list(t.shape) for t in states[-1].inputs] == [[2, 3, 8, 8]] * (past + future)
    with pytest.raises(ValueError, match="does not fit frames"):
        model.step(video(2, 3, 40, 13), states[-1])


def test_tiles():
    model = halved("ifi-rnn+irm")
    clip = video(1, 3, 3, 72, 88)
    whole, tiled = (stepped(runner, clip)[0] for runner in (model, _Steps(Tiled(model, tile=64))))
    assert (whole - clip).abs().mean() > 0.001
    assert (whole - tiled).abs().mean() < 0.5 * (whole - clip).abs().mean()  # 0.27 seen


class _Steps:
    """Tiles with the methods that :func:`stepped` calls."""

    def __init__(self, tiled):
        self.step, self.flush = tiled.step, lambda state: []


def test_weights_say_so(tmp_path):
    model = halved("ifi-rnn+irm", blocks=2).float()
    save_weights(model, tmp_path / "half.safetensors")
    loaded = load(tmp_path / "half.safetensors")
    clip = video(1, 2, 3, 16, 16).float()
    assert loaded.config["half_resolution"] is True
    assert_equal(loaded(clip), model(clip), EXACT)


def test_it_needs_the_input():
    with pytest.raises(RirnError, match="half_resolution needs residual=True"):
        create_model("gru", width=0.1, half_resolution=True)


def test_the_stride_of_the_features():
    assert halved("ifi-rnn").stride == 8
    assert small("strcnn").stride == 2


def test_ifi_rnn_has_as_many_residual_blocks_as_asked_for():
    assert len(create_model("ifi-rnn", width=0.1, blocks=3).base.cells[0].trunk) == 3
    with pytest.raises(RirnError, match="at least one residual block; got 0"):
        create_model("ifi-rnn", blocks=0)
