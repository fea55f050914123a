"""Fake kernels and derivatives of compiled ops whose arguments and results are all tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rirn.ops._call import is_wanted, needs_mask, refuse_double_backward
from rirn.ops._library import library


def register(op: str, fake: Callable[..., Any]) -> None:
    """Give ``rirn::op`` its fake kernel and its derivative, if the compiled library holds the op.

    The derivative is the op ``{op}_backward(*output gradients, *inputs, needs)``, which returns one gradient
    per input, an empty one where bit i of ``needs`` is not set. Nothing but the inputs is saved.
    """
    if not library().loaded or not hasattr(torch.ops.rirn, op):
        return
    n_inputs = len(getattr(torch.ops.rirn, op).default._schema.arguments)

    def fake_backward(*args: Any) -> Any:
        *tensors, needs = args
        inputs = tensors[-n_inputs:]
        return tuple(
            torch.empty_like(t) if is_wanted(needs, i) else t.new_empty(0) for i, t in enumerate(inputs)
        )

    def save_inputs(ctx: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, *grads: Tensor) -> Any:
        wanted = ctx.needs_input_grad
        gradient = getattr(torch.ops.rirn, f"{op}_backward")
        found = gradient(*grads, *ctx.saved_tensors, needs_mask(wanted))
        return tuple(g if want else None for g, want in zip(found, wanted, strict=True))

    torch.library.register_fake(f"rirn::{op}", fake)
    torch.library.register_fake(f"rirn::{op}_backward", fake_backward)
    torch.library.register_autograd(f"rirn::{op}", backward, setup_context=save_inputs)
    refuse_double_backward(op)
