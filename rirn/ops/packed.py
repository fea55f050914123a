"""Weights in the order in which CUDA's tensor cores want them, brought into it once for many calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rirn.ops._library import library
from rirn.ops.backends import has_kernel


class Packed:
    """What :func:`keep_packed` keeps."""

    def __init__(self, ops: Any = None):
        self._ops = ops
        self.held: list[Tensor] = []
        """Behind the block: what :meth:`again` reads and writes, for a graph that repeats it to hold."""

    def again(self) -> None:
        """Bring all weights that calls in the block have met into order once more, as they are by then, in one launch or two."""
        if self._ops is not None:
            self._ops.pack_again()


@contextlib.contextmanager
def keep_packed(device: torch.device) -> Iterator[Packed]:
    """Within the block, calls of this thread in half precision on a GPU bring each weight into order once, and not every time;
    where weights change all the same, :meth:`Packed.again` sees it. On other devices and for torch.compile nothing is kept."""
    if device.type != "cuda" or torch.compiler.is_compiling() or not _has_kernels():
        yield Packed()
        return
    ops = _ops()
    packed = Packed(ops)
    ops.open_packed()
    try:
        yield packed
    finally:
        packed.held = ops.close_packed()


def _has_kernels() -> bool:
    return library().loaded and has_kernel("conv3x3_chain", "CUDA")


def _ops() -> Any:
    return torch.ops.rirn
