"""Autocast, float16 and bfloat16 alike: the same rule on every backend, eager and compiled."""

import pytest
import torch

from rirn.ops import atb_blend, irm_update
from rirn.ops._library import library
from tests.ops.calls import reference
from tests.ops.cases import Case, atb_inputs, irm_inputs

DTYPES = [torch.float16, torch.bfloat16]
BACKENDS = ["reference", "auto"]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["fp16", "bf16"])
backends = pytest.mark.parametrize("backend", BACKENDS)


def blend(inputs, backend):
    return atb_blend(*inputs, backend=backend)


def update(flat, backend):
    return irm_update(flat[0], flat[1], flat[2:8], flat[8:], backend=backend)


OPS = pytest.mark.parametrize(
    ("call", "make"), [(blend, atb_inputs), (update, irm_inputs)], ids=["atb_blend", "irm_update"]
)


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
    flat = [t.detach().to(dtype) for t in irm_inputs(Case(1, 3, 5, 4))]
    want = reference.irm_update(
        *[t.float() for t in flat[:2]], [t.float() for t in flat[2:8]], [t.float() for t in flat[8:]]
    )
    with torch.autocast("cpu", dtype):
        assert torch.equal(update(flat, "reference"), want.to(dtype))


def test_the_compiled_library_takes_part():
    if not library().loaded:
        pytest.skip(library().reason)
    with torch.autocast("cpu", torch.bfloat16):
        assert blend(atb_inputs(Case(1, 2, 3, 4)), "cpu").dtype == torch.bfloat16
