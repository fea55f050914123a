"""Activations that the CPU kernels hold from the forward to the backward pass, and how much memory they may take."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path

from rirn.errors import RirnError

CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),  # cgroup v2
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),  # cgroup v1
)

TORCH_OPS = ("conv3x3_chain_holding", "conv3x3_chain_held_backward")
"""The ops that run in place of a chain and its backward pass on the CPU; no trace ever sees them."""

_most: int | None = None


@contextlib.contextmanager
def hold_activations(most: int | None) -> Iterator[None]:
    """Limit, within the block, what convolution chains on the CPU hold for their backward pass.

    A chain that holds the images between its layers need not recompute them. What does not fit is recomputed;
    the gradients are bit-identical. Without this block the limit is a quarter of the machine's or the container's
    memory, divided among the processes that ``torchrun`` starts there.

    Args:
        most: bytes held at any one time; 0 holds nothing, None is the default above.

    Raises:
        RirnError: the limit is negative.

    Example:
        >>> from rirn.ops import hold_activations
        >>> with hold_activations(0):  # less memory, more time
        ...     pass
    """
    global _most
    if most is not None and most < 0:
        raise RirnError(f"the bytes to hold must be 0 or more, or None; got {most}")
    before, _most = _most, most
    try:
        yield
    finally:
        _most = before


def most_held() -> int:
    """Return the current limit in bytes."""
    return _quarter() if _most is None else _most


@functools.cache
def _quarter() -> int:
    if not hasattr(os, "sysconf"):  # Windows: no standard way to ask
        return 1 << 30
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
            limits.append(int(path.read_text()))
    return min(limits) // 4 // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
