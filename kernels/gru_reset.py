"""Triton kernels of the reset gate of a GRU: every tensor is read straight through as one long row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from rirn.kernels import jit, tl
from rirn.kernels.aot import Variant
from rirn.kernels.device import load, store
from rirn.kernels.launch import launch_row, row_variants


@jit
def _forward(p_logit_r, p_hidden, p_out, size, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    r = tl.sigmoid(load(p_logit_r, at, mask, WIDE))
    store(p_out, at, r * load(p_hidden, at, mask, WIDE), mask)


@jit
def _backward(
    p_grad,
    p_logit_r,
    p_hidden,
    p_grad_logit_r,
    p_grad_hidden,
    size,
    NEEDS: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    grad = load(p_grad, at, mask, WIDE)
    r = tl.sigmoid(load(p_logit_r, at, mask, WIDE))
    if (NEEDS & 1) != 0:
        store(p_grad_logit_r, at, grad * load(p_hidden, at, mask, WIDE) * r * (1 - r), mask)
    if (NEEDS & 2) != 0:
        store(p_grad_hidden, at, grad * r, mask)


def forward(out: Tensor, logit_r: Tensor, hidden: Tensor) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.gru_reset`, already checked, of at least one element."""
    launch_row(_forward, (logit_r, hidden), [out], hidden)


def backward(grads: Sequence[Tensor | None], grad: Tensor, logit_r: Tensor, hidden: Tensor) -> None:
    """Fill the gradients of the two tensors that are not None."""
    launch_row(_backward, (grad, logit_r, hidden), grads, hidden)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    yield from row_variants("gru_reset", _forward, _backward, 2)
