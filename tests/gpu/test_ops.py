"""Every op on a device, as torch ops: streams, repeatability, layouts, and tensors of more than 2^31 elements."""

import contextlib
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from rirn.ops.spec import OPS
from tests.ops.calls import arguments
from tests.ops.cases import Case
from tests.tolerances import TABLE, assert_close, row_of

SEVERAL_BLOCKS = [
    Case(2, 20, 37, 70),
    Case(2, 16, 37, 70, "fp16", "channels_last"),
    Case(1, 20, 33, 70, "bf16", "contiguous", "11"),
]
CHAINS = ("conv3x3_chain", "irm_update")
POINTWISE = [name for name, op in OPS.items() if op.operations]
SCALED = {"fac": 25, "lstm_update": 4}
"""Channels of the largest tensor of an op over those of its result."""
LARGE_BYTES = 64 * 2**30

passes = pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
ops = pytest.mark.parametrize("op", OPS)
cases = pytest.mark.parametrize("case", SEVERAL_BLOCKS, ids=str)


def call(place, op, backward, args):
    return tree_leaves(place.op(f"{op}_backward" if backward else op)(*args))


@ops
@passes
@cases
def test_equals_the_cpu_kernel(op, backward, case, place):
    """Each may be as far from the truth as the table allows."""
    name = f"{op}_backward" if backward else op
    args = arguments(op, case, backward=backward)
    expected = tree_leaves(getattr(torch.ops.rirn, name)(*args))
    found = call(place, op, backward, tree_map_only(Tensor, lambda t: t.to(place.device), args))
    row = row_of(op, place.backend, case.dtype) if op in CHAINS else op
    limit = TABLE[row, "gradient" if backward else "output", case.dtype]
    twice = dataclasses.replace(limit, max=2 * limit.max, rms=2 * limit.rms)
    for got, want in zip(found, expected, strict=True):
        assert got.stride() == want.stride() and got.dtype == want.dtype
        assert_close(got.cpu(), want, twice)


@ops
@passes
@cases
def test_repeats_bit_for_bit(op, backward, case, place):
    args = arguments(op, case, place.device, backward=backward)
    first, second = (call(place, op, backward, args) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@ops
@passes
def test_runs_on_the_current_stream(op, backward, place):
    """The inputs are made on another stream just before: a kernel on the default stream would read too early."""
    case = Case(2, 16, 64, 64)
    args = arguments(op, case, place.device, backward=backward)
    expected = call(place, op, backward, args)

    def made_late(t):
        late = torch.full_like(t, torch.nan)
        if t.is_cuda:
            torch.cuda._sleep(10_000_000)
        return late.copy_(t)

    on_stream = contextlib.nullcontext()
    if place.device == "cuda":
        torch.cuda.synchronize()
        on_stream = torch.cuda.stream(torch.cuda.Stream())
    with on_stream:
        found = call(place, op, backward, tree_map_only(Tensor, made_late, args))
        if place.device == "cuda":
            torch.cuda.current_stream().synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("op", "logits"),
    [*((op, "CC") for op in POINTWISE), *((op, "11") for op in POINTWISE if OPS[op].one_for_all)],
)
@passes
def test_the_end_of_large_tensors(op, backward, logits, place):
    """Offsets of 32 bits would wrap; the last rows must be those of a small tensor that holds them alone."""
    place.op(op)
    scale = SCALED.get(op, 1)
    c, height, width = 64 // scale, 24, 16
    if place.device == "cuda":
        if torch.cuda.mem_get_info()[0] < LARGE_BYTES:
            pytest.skip(f"needs {LARGE_BYTES >> 30} GiB of GPU memory that are free")
        width = 4096
        height = 2**31 // (c * scale * width) + 8
    like = arguments(op, Case(1, c, 1, 1, "fp16", logits=logits), backward=backward)
    torch.manual_seed(0)

    def large(t):
        if t.dim() != 4:
            return t.to(place.device)
        return torch.empty(1, t.shape[1], height, width, dtype=t.dtype, device=place.device).normal_()

    def cropped(t):
        return t[:, :, -16:].contiguous() if t.dim() == 4 else t

    args = tree_map_only(Tensor, large, like)
    whole = call(place, op, backward, args)
    part = call(place, op, backward, tree_map_only(Tensor, cropped, args))
    for got, want in zip(whole, part, strict=True):
        if got.dim() == 4:  # the gradient of beta is a sum over everything
            assert torch.equal(got[:, :, -8:], want[:, :, -8:])
