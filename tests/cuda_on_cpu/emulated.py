"""The CUDA ops as the emulator runs them, with their derivatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rirn.ops._call import needs_mask
from tests.cuda_on_cpu.build import emulator


class _Emulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: str, constants: tuple[Any, ...], *tensors: Tensor) -> Any:
        ctx.name, ctx.constants = name, constants
        ctx.save_for_backward(*tensors)
        return getattr(torch.ops.rirn_on_cpu, name)(*tensors, *constants)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        wanted = ctx.needs_input_grad[2:]
        gradient = getattr(torch.ops.rirn_on_cpu, f"{ctx.name}_backward")
        found = gradient(*grads, *ctx.saved_tensors, *ctx.constants, needs_mask(wanted))
        return (None, None, *(g if want else None for g, want in zip(found, wanted, strict=True)))


def run(name: str, *tensors: Tensor, constants: tuple[Any, ...] = ()) -> Any:
    """Call ``rirn::{name}``, compiled from its CUDA sources for the CPU; differentiable once."""
    emulator()
    return _Emulated.apply(name, constants, *tensors)
