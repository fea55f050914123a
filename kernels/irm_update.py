"""One step of the inner-recurrence module in Triton: six launches, a run of 3x3 convolutions whose layers are
fixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from rirn.kernels import conv3x3, conv3x3_chain
from rirn.kernels.aot import Variant

SLOPES = (0.0, 0.0, 1.0, 0.0, 1.0, 1.0)  # joint, res1a, res1b, res2a, res2b, out: 0 is ReLU, 1 none
SKIPS = (0, 0, 1, 0, 1, 0)


def forward(
    out: Tensor, hidden: Tensor, inner: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]
) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.irm_update`, already checked, of at least one element."""
    conv3x3_chain.forward(out, (hidden, inner), weights, biases, SLOPES, SKIPS, False, False)


def backward(
    grads: Sequence[Tensor | None],
    grad: Tensor,
    hidden: Tensor,
    inner: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
) -> None:
    """Fill the gradients of states, weights and biases that are not None."""
    conv3x3_chain.backward(grads, grad, (hidden, inner), weights, biases, SLOPES, SKIPS, False, False)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    yield from conv3x3.variants()
