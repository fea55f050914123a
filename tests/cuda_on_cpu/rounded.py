"""What kernels are held to that round at every layer: the reference with the very same roundings, in float64 in between.

A rounded activation may fall on the other side of an activation's kink, which switches its whole gradient. Against the reference without
roundings such a kernel is therefore as far off as torch's own layers in half precision are (up to a third of the largest gradient in
bfloat16), and a bug could hide there. Against this one it is off by its last rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.cuda_on_cpu.harness import in_every_order
from tests.ops.cases import Case, like_truth
from tests.tolerances import DTYPES, TABLE, Tolerance, assert_close

_TIE = "one step of the dtype, where a sum lies near the middle between two"
STEPS = {  # worst seen
    "fp16": Tolerance(1e-3, 5.8e-4, 3e-4, 1.1e-4, _TIE),
    "bf16": Tolerance(8e-3, 3.3e-3, 2.5e-3, 1.6e-3, _TIE),
}


class Round(torch.autograd.Function):
    """To ``dtype`` and back, the gradient as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.dtype = dtype
        return x.to(dtype).double()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype).double(), None


def chain(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[float],
    skips: Sequence[bool],
    unshuffle: bool = False,
    shuffle: bool = False,
    *,
    dtype: torch.dtype,
) -> Tensor:
    """Return :func:`rirn.ops.reference.conv3x3_chain` of float64 tensors, each layer rounded to ``dtype``."""
    if unshuffle:
        inputs = [F.pixel_unshuffle(x, 2) for x in inputs]
    before = x = torch.cat(list(inputs), 1)
    for weight, bias, slope, skip in zip(weights, biases, slopes, skips, strict=True):
        y = F.conv2d(x, weight, bias, padding=1)
        y = before + y if skip else y
        y = Round.apply(F.leaky_relu(y, slope) if slope != 1 else y, dtype)
        before, x = x, y
    return F.pixel_shuffle(x, 2) if shuffle else x


def assert_close_to_rounded(op: str, kind: str, case: Case, got: Tensor, want: Tensor, what: str) -> None:
    """Compare with what :func:`chain` or its gradient gives; float32 and float64 round nowhere."""
    assert_close(got, want, STEPS.get(case.dtype) or TABLE.get((op, kind, case.dtype)) or TABLE["irm_update", kind, case.dtype], what)


def check_chain(
    tensors: tuple[list[Tensor], list[Tensor], list[Tensor]],
    options: tuple[list[float], list[int], bool, bool],
    case: Case,
    grad_layout: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> None:
    """Check conv3x3_chain of inputs, weights and biases, and every gradient; the same bits in every order of threads."""
    inputs, weights, biases = tensors
    flat = [*inputs, *weights, *biases]
    counts = len(inputs), len(inputs) + len(weights)
    ops = torch.ops.rirn_on_cpu
    [out] = in_every_order(lambda: [ops.conv3x3_chain(inputs, weights, biases, *options)])
    wide = like_truth(flat)
    parts = wide[: counts[0]], wide[counts[0] : counts[1]], wide[counts[1] :]
    want = chain(*parts, *options, dtype=DTYPES[case.dtype])
    assert_close_to_rounded("conv3x3_chain", "output", case, out, want, "output")
    channels_last = inputs[0].shape[1] > 1 and inputs[0].stride(1) == 1
    assert out.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    grad = torch.randn(want.shape, generator=torch.Generator().manual_seed(9)).to(out)
    wanted = torch.autograd.grad(want, wide, grad.double())
    slope = options[0][-1]  # the op takes the gradient in front of the last activation
    before = grad_layout(torch.where(out > 0, grad, slope * grad))
    needs = (1 << len(flat)) - 1
    found = in_every_order(lambda: ops.conv3x3_chain_backward(before, inputs, weights, biases, *options, needs))
    for i, (got, expected, t) in enumerate(zip(found, wanted, flat, strict=True)):
        assert got.stride() == torch.empty_like(t).stride()
        assert_close_to_rounded("conv3x3_chain", "gradient", case, got, expected, f"gradient {i}")
