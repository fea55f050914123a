"""Autocast, float16 and bfloat16 alike: the same rule on every backend, eager and compiled."""

import contextlib
import copy
from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rirn import create_model
from rirn.models import deblurrer
from rirn.ops import _call, atb_blend
from rirn.ops._library import library
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_irm_update import IRM

DTYPES = [torch.float16, torch.bfloat16]
BACKENDS = ["reference", "auto"]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["fp16", "bf16"])
backends = pytest.mark.parametrize("backend", BACKENDS)


def blend(inputs, backend):
    return atb_blend(*inputs, backend=backend)


def update(flat, backend):
    return IRM.function(*flat, backend=backend)


OPS = pytest.mark.parametrize(("call", "make"), [(blend, atb_inputs), (update, IRM.make)], ids=["ATB", "IRM"])


@dtypes
@backends
@OPS
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_equals_casting_by_hand(call, make, backend, dtype, compiled):
    inputs = make(Case(2, 3, 5, 4))
    if compiled:
        torch._dynamo.reset()
    run = torch.compile(call, fullgraph=True, backend="aot_eager") if compiled else call
    with torch.autocast("cpu", dtype):
        got = run(inputs, backend)
        want = call([t.to(dtype) for t in inputs], backend)
    outside = call([t.to(dtype) for t in inputs], backend)
    assert got.dtype == dtype
    assert torch.equal(got, want)
    assert torch.equal(got, outside), "arithmetic inside the op must not be autocast"
    for t, grad in zip(inputs, torch.autograd.grad(got.float().sum(), inputs), strict=True):
        assert grad.dtype == t.dtype == torch.float32
        assert grad.isfinite().all()


@dtypes
@backends
def test_mixed_inputs_are_brought_together(backend, dtype):
    f_prev, f_cur, logit_prev, logit_cur = (t.detach() for t in atb_inputs(Case(1, 2, 3, 4)))
    with torch.autocast("cpu", dtype):
        got = atb_blend(f_prev, f_cur.to(dtype), logit_prev.to(dtype), logit_cur.half(), backend=backend)
    assert got.dtype == dtype


@dtypes
@backends
@OPS
def test_float64_is_left_alone(call, make, backend, dtype):
    inputs = make(Case(1, 2, 3, 4, "fp64"))
    with torch.autocast("cpu", dtype):
        assert torch.equal(call(inputs, backend), call(inputs, "reference")) or backend == "auto"
        assert call(inputs, backend).dtype == torch.float64


@dtypes
def test_reference_keeps_its_float32_arithmetic(dtype):
    flat = [t.detach().to(dtype) for t in IRM.make(Case(1, 3, 5, 4))]
    want = IRM.reference(*(t.float() for t in flat))
    with torch.autocast("cpu", dtype):
        assert torch.equal(update(flat, "reference"), want.to(dtype))


class Count(TorchDispatchMode):
    """Casts of tensors of some size."""

    def __init__(self):
        super().__init__()
        self.casts = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.casts += (
            func.overloadpacket.__name__ == "_to_copy" and args[0].dim() == 4 and args[0].shape[2:] == (3, 3)
        )
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recompute", [False, True])
def test_a_clip_casts_each_weight_once(recompute):
    """Forward; the gradients are those of casts for every frame, and another step sees the weights that changed."""

    def step(model, clip):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16), Count() as count:
            model(clip).square().mean().backward()
        return count.casts, [p.grad.clone() for p in model.parameters()]

    torch.manual_seed(0)
    model = create_model("ifi-rnn+rirn", width=0.2)
    model.recompute = recompute
    clips = torch.rand(2, 1, 4, 3, 64, 96)
    one, _ = step(model, clips[0, :, :1])
    casts, grads = step(model, clips[0])
    with mock.patch.object(deblurrer, "keep_casts", contextlib.nullcontext):
        more, expected = step(model, clips[0])
    # What is cast for every frame all the same: halves of a weight, and what is computed again.
    assert casts - one < (more - one) * (0.6 if recompute else 0.2), (one, casts, more)
    for grad, want in zip(grads, expected, strict=True):
        torch.testing.assert_close(
            grad, want, rtol=0.02, atol=2e-5
        )  # bfloat16 sums of frames in another order
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.5)
    _, changed = step(model, clips[0])
    again = copy.deepcopy(model)
    for grad, want in zip(changed, step(again, clips[0])[1], strict=True):
        assert torch.equal(grad, want)


def test_casts_are_kept_within_the_block_alone():
    weight = torch.nn.Parameter(torch.ones(2, 2, 3, 3))
    with torch.autocast("cpu", torch.bfloat16):
        with _call.keep_casts():
            first, second = _call.autocast(weight)[0], _call.autocast(weight)[0]
            assert first is second
            with torch.no_grad():
                assert not _call.autocast(weight)[0].requires_grad
        assert _call.autocast(weight)[0] is not first


def test_the_compiled_library_takes_part():
    if not library().loaded:
        pytest.skip(library().reason)
    with torch.autocast("cpu", torch.bfloat16):
        assert blend(atb_inputs(Case(1, 2, 3, 4)), "cpu").dtype == torch.bfloat16
