"""Precision of convolution products on the CPU: float32, or rounded to bfloat16 where that is twice as fast."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from rirn.errors import RirnError
from rirn.ops._library import library
from rirn.ops._transforms import is_differentiated

PRECISIONS = ("exact", "fast")

FAST_ISA = "avx512_bf16"
"""The instruction set that has such products."""

TORCH_OP = "conv3x3_chain_fast"
"""The op that runs in place of a chain, on the CPU."""


class _Thread(threading.local):
    """What :func:`use_precision` asked for, per thread: see the class of that name in :mod:`rirn.ops.backends`."""

    def __init__(self) -> None:
        self.name, self.gradients = "exact", False


_thread = _Thread()


@contextmanager
def use_precision(name: str, *, gradients: bool = False) -> Iterator[None]:
    """Run chains of 3x3 convolutions, IRM's too, inside the block, in this thread, exactly or fast.

    ``fast`` rounds the factors of products to bfloat16, after Winograd's transform, and accumulates in float32; nothing else
    changes. It needs the CPU's AVX512-BF16 instructions. On other processors and devices, and, without ``gradients``, wherever
    a derivative is wanted, the block has no effect.

    Args:
        name: ``exact`` or ``fast``.
        gradients: also where a backward pass will follow, for a training step in four fifths of the time. Gradients of images
            are then fast, too; the sums of weight gradients stay exact.

    Raises:
        RirnError: an unknown name.

    Example:
        >>> import torch
        >>> from rirn.ops import conv3x3_chain, use_precision
        >>> x, weight, bias = torch.rand(1, 8, 32, 64), torch.rand(8, 8, 3, 3), torch.zeros(8)
        >>> exact = conv3x3_chain([x], [weight], [bias], [1], [False])
        >>> with use_precision("fast"):
        ...     fast = conv3x3_chain([x], [weight], [bias], [1], [False])
        >>> bool((fast - exact).abs().max() < 0.05 * exact.abs().max())
        True
    """
    before = _thread.name, _thread.gradients
    _thread.name, _thread.gradients = checked_precision(name), gradients
    try:
        yield
    finally:
        _thread.name, _thread.gradients = before


def checked_precision(name: str) -> str:
    """Return the name of a precision.

    Raises:
        RirnError: the name is unknown.
    """
    if name not in PRECISIONS:
        raise RirnError(f"{name!r} is not a precision, choose one of {', '.join(PRECISIONS)}")
    return name


def has_fast() -> bool:
    """Whether this processor has the products that ``use_precision("fast")`` needs."""
    return library().isa == FAST_ISA


# A constant for torch.compile: see rirn.ops.backends.
has_fast._dynamo_marked_constant = True  # type: ignore[attr-defined]


def runs_fast(tensors: Sequence[Tensor]) -> bool:
    """Whether a chain on the CPU that reads these tensors runs as :data:`TORCH_OP`, which has no derivative."""
    if _thread.name != "fast" or not has_fast():
        return False
    return not is_differentiated(tensors)


def trains_fast() -> bool:
    """Whether chains on the CPU have fast products in both passes."""
    return _thread.name == "fast" and _thread.gradients and has_fast()
