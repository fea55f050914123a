"""Triton kernels of the update of a GRU: every tensor is read straight through as one long row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from rirn.kernels import jit, tl
from rirn.kernels.aot import Variant
from rirn.kernels.device import load, store, tanh
from rirn.kernels.launch import launch_row, row_variants


@jit
def _forward(p_hidden, p_logit_z, p_logit_n, p_out, size, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    z = tl.sigmoid(load(p_logit_z, at, mask, WIDE))
    candidate = tanh(load(p_logit_n, at, mask, WIDE))
    store(p_out, at, (1 - z) * load(p_hidden, at, mask, WIDE) + z * candidate, mask)


@jit
def _backward(
    p_grad,
    p_hidden,
    p_logit_z,
    p_logit_n,
    p_grad_hidden,
    p_grad_logit_z,
    p_grad_logit_n,
    size,
    OUTPUT_MASK: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    grad = load(p_grad, at, mask, WIDE)
    z = tl.sigmoid(load(p_logit_z, at, mask, WIDE))
    if (OUTPUT_MASK & 6) != 0:
        candidate = tanh(load(p_logit_n, at, mask, WIDE))
    if (OUTPUT_MASK & 1) != 0:
        store(p_grad_hidden, at, grad * (1 - z), mask)
    if (OUTPUT_MASK & 2) != 0:
        change = candidate - load(p_hidden, at, mask, WIDE)
        store(p_grad_logit_z, at, grad * change * z * (1 - z), mask)
    if (OUTPUT_MASK & 4) != 0:
        store(p_grad_logit_n, at, grad * z * (1 - candidate * candidate), mask)


def forward(out: Tensor, hidden: Tensor, logit_z: Tensor, logit_n: Tensor) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.gru_update`, already checked, of at least one element."""
    launch_row(_forward, (hidden, logit_z, logit_n), [out], hidden)


def backward(
    grads: Sequence[Tensor | None], grad: Tensor, hidden: Tensor, logit_z: Tensor, logit_n: Tensor
) -> None:
    """Fill the gradients of the three tensors that are not None."""
    launch_row(_backward, (grad, hidden, logit_z, logit_n), grads, hidden)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    yield from row_variants("gru_update", _forward, _backward, 3)
