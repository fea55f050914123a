"""Weights packed in the order that CUDA's tensor cores want, once for many calls."""

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
        """After the block: what :meth:`again` reads and writes; a graph that replays it must hold this."""

    def again(self) -> None:
        """Repack all weights that calls in the block have used, with their current values, in one or two launches."""
        if self._ops is not None:
            self._ops.pack_again()


@contextlib.contextmanager
def keep_packed(device: torch.device) -> Iterator[Packed]:
    """Within the block, calls of this thread in half precision on a GPU pack each weight once instead of every time; if
    weights change meanwhile, call :meth:`Packed.again`. On other devices and under torch.compile nothing is kept."""
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
