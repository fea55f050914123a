"""What kernels are held to that round at every layer: the reference with the very same roundings, in float64 in between.

A rounded activation may fall on the other side of an activation's kink, which switches its whole gradient. Against the
reference without roundings such a kernel is therefore as far off as torch's own layers in half precision are (up to a
third of the largest gradient in bfloat16), and a bug could hide there. Against this one it is off by its last rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.ops.cases import Case
from tests.tolerances import TABLE, Tolerance, assert_close

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
    exact = TABLE.get((op, kind, case.dtype), TABLE["irm_update", kind, case.dtype])
    assert_close(got, want, STEPS.get(case.dtype, exact), what)
