"""IFI-RNN with an encoder that reads neighbouring frames together with the one to restore."""

import pytest
import torch

from rirn import RirnError, create_model
from tests.models.cases import small, video
from tests.models.test_behaviour import assert_equal, stepped

AROUND = [(2, 2), (1, 0), (0, 1)]


@pytest.mark.parametrize(("past", "future"), AROUND)
@pytest.mark.parametrize("name", ["ifi-rnn", "ifi-rnn+rirn"])
def test_steps_equal_the_whole_clip(name, past, future):
    model = small(name, past=past, future=future)
    clip = video(2, 5, 3, 10, 13)
    restored, _ = stepped(model, clip)
    assert model.delay == future
    assert_equal(restored, model(clip))


@pytest.mark.parametrize(("past", "future"), AROUND)
def test_blind_to_its_neighbours_it_is_the_network_without_them(past, future):
    model, plain = small("ifi-rnn+rirn", past=past, future=future), small("ifi-rnn+rirn")
    weights = model.state_dict()
    first = "base.cells.0.encoder.0.weight"
    seen = torch.zeros_like(weights[first])
    seen[:, 3 * past : 3 * past + 3] = plain.state_dict()[first]
    model.load_state_dict(plain.state_dict() | {first: seen})
    clip = video(1, 4, 3, 8, 12)
    assert_equal(model(clip), plain(clip))


@pytest.mark.parametrize(("past", "future"), AROUND)
def test_it_reads_so_many_frames(past, future):
    """Without memory, what a frame turns into changes with the frames around it and with no others."""
    model = small("ifi-rnn", past=past, future=future)
    for layer in model.base.cells[0].update.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.zeros_(layer.weight)
    clip = video(1, 9, 3, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(model(clip)[:, 4].sum(), clip)
    read = [t - 4 for t in range(9) if gradient[:, t].abs().max() > 1e-6]
    assert read == list(range(-past, future + 1))


def test_fewer_than_no_frames_are_refused():
    with pytest.raises(RirnError, match="must not be negative; got -1 and 0"):
        create_model("ifi-rnn", past=-1)
