"""What is timed: the ops at the sizes of the published models, and who competes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rirn.ops import atb_blend, conv3x3_chain, irm_update, why_not

FUSED = ("cpu", "cuda", "triton")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Relative root-mean-square error against float64 up to which numbers count as right.
LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}

# Sizes of the biases in front of ReLUs, with the sign changing from channel to channel. They keep every activation off the
# kink, where rounding decides on which side it falls: one such flip in a million changes a gradient by 1e-3, for eager PyTorch as
# for the fused ops, and would hide what is to be compared. Each layer needs more: it reads the offsets of the one before.
OFF_THE_KINK = (6.0, 30.0, 200.0)


@dataclass(frozen=True)
class Case:
    """One op at one size. ``passes`` is ``forward`` or ``forward+backward``."""

    op: str
    channels: int
    height: int
    width: int
    dtype: str
    passes: str

    def __str__(self) -> str:
        return f"{self.op} c={self.channels} {self.height}x{self.width} {self.dtype} {self.passes}"

    @property
    def ideal_bytes(self) -> int | None:
        """Bytes a pointwise op has to move, each tensor once; None for convolutions, which are not bound by
        memory.

        Forward reads four tensors and writes one; backward reads the gradient and four tensors and writes
        four.
        """
        if self.op != "atb_blend":
            return None
        tensors = 5 if self.passes == "forward" else 14
        return tensors * self.channels * self.height * self.width * DTYPES[self.dtype].itemsize


BEFORE_RELU = {"conv3x3_chain": (3,), "irm_update": (8, 9, 11)}
"""Where the biases in front of ReLUs stand in the flat list of an op's tensors."""


def make_inputs(case: Case, device: torch.device) -> list[Tensor]:
    """Return the op's tensors in one flat list; all of them want gradients if the backward pass is timed."""
    generator = torch.Generator().manual_seed(0)
    c, image = case.channels, (1, case.channels, case.height, case.width)
    if case.op == "atb_blend":
        shapes, scales = [image] * 4, [1.0] * 4
    elif case.op == "conv3x3_chain":
        shapes, scales = [image, *[(c, c, 3, 3)] * 2, *[(c,)] * 2], [1.0, *[(9 * c) ** -0.5] * 2, *[0.1] * 2]
    else:
        outs = [2 * c] * 5 + [c]
        shapes = [image, image, *((o, 2 * c, 3, 3) for o in outs), *((o,) for o in outs)]
        scales = [1.0, 1.0, *[(18 * c) ** -0.5] * 6, *[0.1] * 6]  # keeps the activations of order one
    tensors = [
        scale * torch.randn(shape, generator=generator) for shape, scale in zip(shapes, scales, strict=True)
    ]
    for bias, size in zip(BEFORE_RELU.get(case.op, ()), OFF_THE_KINK, strict=False):
        tensors[bias] += size * (-1) ** torch.arange(len(tensors[bias]))
    tensors = [t.to(device, DTYPES[case.dtype]) for t in tensors]
    return [t.requires_grad_(case.passes != "forward") for t in tensors]


def call(op: str, backend: str, *tensors: Tensor) -> Tensor:
    """Run an op on a flat list of tensors."""
    if op == "atb_blend":
        return atb_blend(*tensors, backend=backend)
    if op == "conv3x3_chain":  # a residual block
        return conv3x3_chain(
            tensors[:1], tensors[1:3], tensors[3:], slopes=[0, 1], skips=[False, True], backend=backend
        )
    return irm_update(tensors[0], tensors[1], tensors[2:8], tensors[8:], backend=backend)


def competitors(op: str, device: torch.device, with_compiled: bool) -> dict[str, Callable[..., Tensor]]:
    """Return who takes part, the eager reference first; a fused backend only where it can run."""
    eager = functools.partial(call, op, "reference")
    found: dict[str, Callable[..., Tensor]] = {"reference": eager}
    if with_compiled:
        found["compiled reference"] = torch.compile(eager, dynamic=False)
    for backend in FUSED:
        if why_not(backend, op, device) is None:
            found[backend] = functools.partial(call, op, backend)
    return found


def run(function: Callable[..., Tensor], inputs: list[Tensor], grad: Tensor | None) -> list[Tensor]:
    """Run one pass, or both if there is a gradient to send back, and return everything that came out."""
    if grad is None:
        with torch.no_grad():
            return [function(*inputs)]
    out = function(*inputs)
    return [out, *torch.autograd.grad(out, inputs, grad)]


def to_double(inputs: list[Tensor], grad: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
    """Return the same values in float64, for the truth that everyone is held against."""
    tensors = [t.detach().double().requires_grad_(t.requires_grad) for t in inputs]
    return tensors, None if grad is None else grad.double()


def errors(got: list[Tensor], truth: list[Tensor]) -> list[float]:
    """Return the relative root-mean-square error of each tensor; infinite if anything in it is not finite."""
    found = []
    for a, b in zip(got, truth, strict=True):
        difference, scale = (a.double() - b.double()).square().mean(), b.double().square().mean()
        ratio = (difference / scale.clamp_min(1e-30)).sqrt().item()
        found.append(ratio if math.isfinite(ratio) else math.inf)
    return found
