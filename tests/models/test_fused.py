"""Whole models on the compiled CPU ops, asked for by name: what `auto` takes at sizes that tests cannot afford."""

import pytest
import torch

from rirn.ops import available_backends, use_backend
from rirn.ops.spec import OPS
from tests.models.cases import NAMES, small, video

pytestmark = pytest.mark.skipif(
    any("cpu" not in available_backends(op) for op in OPS), reason="the compiled library is not whole"
)


def trained_step(model, clip, backend):
    """Restored clip and the gradients of its mean square, in one flat list."""
    parameters = [p.requires_grad_() for p in model.parameters()]
    with use_backend(backend):
        restored = model(clip)
        grads = torch.autograd.grad(restored.square().mean(), parameters, allow_unused=True)
    return [restored, *(g for g in grads if g is not None)]


def assert_near(got, expected, relative):
    for a, b in zip(got, expected, strict=True):
        assert (a - b).norm() <= relative * b.norm() + 1e-9, ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("name", NAMES)
def test_image_and_gradients(name):
    clip = video(2, 3, 3, 12, 20).float()
    expected = trained_step(small(name, torch.float32), clip, "reference")
    for layout in (torch.contiguous_format, torch.channels_last):
        model = small(name, torch.float32).to(memory_format=layout)
        # A ReLU within rounding of its kink switches a gradient, hence the room.
        assert_near(trained_step(model, clip, "cpu"), expected, 2e-3)


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "stfan"])
def test_under_autocast(name):
    clip = video(1, 3, 3, 12, 20).float()
    model = small(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16), use_backend("cpu"):
        restored = model(clip)
    assert (restored - model(clip)).abs().max() < 4e-3


def test_compiled_without_graph_breaks():
    torch._dynamo.reset()
    model, clip = (
        small("ifi-rnn+rirn", torch.float32).to(memory_format=torch.channels_last),
        video(1, 2, 3, 12, 20).float(),
    )
    step = torch.compile(model.step, fullgraph=True, backend="aot_eager")
    with use_backend("cpu"):
        states = [None, None]
        for frame in clip.unbind(1):
            (got, states[0]), (expected, states[1]) = step(frame, states[0]), model.step(frame, states[1])
            assert_near([got], [expected], 1e-5)
