"""What is timed: the ops at the sizes of the published models, and who competes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rirn.ops import atb_blend, irm_update, why_not

FUSED = ("cpu", "cuda", "triton")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Relative root-mean-square error up to which a competitor's numbers count as those of the reference in the
# same dtype. A rounded activation can fall on the other side of ReLU's kink, hence the room in half
# precision.
LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


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


def make_inputs(case: Case, device: torch.device) -> list[Tensor]:
    """Return the op's tensors in one flat list; all of them want gradients if the backward pass is timed."""
    generator = torch.Generator().manual_seed(0)
    c, image = case.channels, (1, case.channels, case.height, case.width)
    if case.op == "atb_blend":
        shapes, scales = [image] * 4, [1.0] * 4
    else:
        outs = [2 * c] * 5 + [c]
        shapes = [image, image, *((o, 2 * c, 3, 3) for o in outs), *((o,) for o in outs)]
        scales = [1.0, 1.0, *[(18 * c) ** -0.5] * 6, *[0.1] * 6]  # keeps the activations of order one
    tensors = [
        scale * torch.randn(shape, generator=generator) for shape, scale in zip(shapes, scales, strict=True)
    ]
    tensors = [t.to(device, DTYPES[case.dtype]) for t in tensors]
    return [t.requires_grad_(case.passes != "forward") for t in tensors]


def call(op: str, backend: str, *tensors: Tensor) -> Tensor:
    """Run an op on a flat list of tensors."""
    if op == "atb_blend":
        return atb_blend(*tensors, backend=backend)
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


def error(got: list[Tensor], truth: list[Tensor]) -> float:
    """Return the worst relative root-mean-square error over the tensors; infinite if anything is not
    finite."""
    worst = 0.0
    for a, b in zip(got, truth, strict=True):
        difference, scale = (a.double() - b.double()).square().mean(), b.double().square().mean()
        if not torch.isfinite(difference):
            return float("inf")
        worst = max(worst, (difference / scale.clamp_min(1e-30)).sqrt().item())
    return worst
