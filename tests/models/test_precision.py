"""A state made in one precision goes on in another one: by a model of another dtype, within autocast or without."""

import copy

import pytest
import torch

from tests.models.cases import small, video

DTYPES = {"fp32": torch.float32, "amp": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}
"""Dtype of the weights; ``amp`` runs within bf16 autocast."""
KINDS = [
    "ifi-rnn",
    "ifi-rnn+rirn",
    "strcnn",
    "strcnn+rirn",
    "stfan+rirn",
    "rdbn+dtb",
    "estrnn",
    "gru+rirn",
    "lstm+rirn",
]


@torch.no_grad()
def steps(model, clip, state, precision):
    """Restore some frames; the last image, if there is one, and the state."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "amp"):
        for frame in clip.to(DTYPES[precision]).unbind(1):
            image, state = model.step(frame, state)
    return image, state


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("first", DTYPES)
def test_a_state_goes_on_in_another_precision(name, first):
    clip, model = video(1, 7, 3, 16, 48), small(name, torch.float32)
    models = {precision: copy.deepcopy(model).to(dtype) for precision, dtype in DTYPES.items()}
    _, state = steps(models[first], clip[:, :4], None, first)
    for second, dtype in DTYPES.items():
        image, after = steps(models[second], clip[:, 4:], state, second)
        by_hand = state if second == "amp" and first != "fp64" else state.to(dtype)
        want, converted = steps(models[second], clip[:, 4:], by_hand, second)
        assert torch.equal(image, want) and image.isfinite().all() and image.dtype == dtype
        for key, t in after.tensors().items():
            assert torch.equal(t, converted.tensors()[key]), key
        with torch.autocast("cpu", torch.bfloat16, enabled=second == "amp"), torch.no_grad():
            assert len(models[second].flush(state)) == model.delay


def test_autocast_keeps_the_state_as_it_is():
    """Only what autocast leaves alone is converted: it rounds the rest itself, where it has to."""
    model = small("stfan+rirn", torch.float32)
    _, state = steps(model, video(1, 2, 3, 16, 48), None, "amp")
    with torch.autocast("cpu", torch.bfloat16):
        kept = model._in_working_dtype(state)
    assert {t.dtype for t in state.tensors().values()} == {torch.bfloat16, torch.float32}
    assert all(t is kept.tensors()[name] for name, t in state.tensors().items())
    assert {t.dtype for t in model._in_working_dtype(state).tensors().values()} == {torch.float32}
