"""Kernel launches, bytes and operations of a program, counted while tensors without data pass through it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")
"""Library calls that launch nothing, although they are not marked as views."""

FILLING = (
    "copy_",
    "fill_",
    "zero_",
    "new_zeros",
    "new_ones",
    "new_full",
    "zeros_like",
    "ones_like",
    "full_like",
)
"""Library calls that do not read their first argument: they overwrite it, or create a tensor like it."""


@dataclass(frozen=True)
class Cost:
    """Sums over launches; operations are those of convolutions and matrix products."""

    launches: int = 0
    bytes: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.launches + other.launches, self.bytes + other.bytes, self.flops + other.flops)


def size_of(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor; a dimension with stride 0 counts as one element."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side if stride else min(side, 1) for side, stride in sides) * tensor.element_size()


class LaunchCounter(TorchDispatchMode):
    """Counts every call of torch or rirn as one launch that reads its inputs and writes its outputs once; views and
    allocations are free.

    A call that launches several kernels, such as the backward pass of a convolution, counts as one that touches every
    tensor once: its cost is underestimated.

    Example:
        >>> import torch
        >>> from rirn.bench.launches import LaunchCounter
        >>> x = torch.empty(100, device="meta")
        >>> with LaunchCounter() as counter:
        ...     y = (x.view(10, 10) + 1).relu_()
        >>> counter.cost
        Cost(launches=2, bytes=1600, flops=0)
    """

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()
        self.calls: list[str] = []
        """The name of every call that launches something, in order."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        written = _tensors(out)
        if func.namespace not in ("aten", "rirn") or func.is_view or name in FREE or not written:
            return out
        read = _tensors((args, kwargs))[name in FILLING :]
        count = flop_registry.get(_not_in_place(func))
        flops = 0 if count is None else count(*args, **kwargs, out_val=out)
        self.cost += Cost(1, sum(map(size_of, (*read, *written))), flops)
        self.calls.append(name)
        return out


def _not_in_place(func: Any) -> Any:
    return getattr(getattr(torch.ops, func.namespace), func.overloadpacket.__name__.removesuffix("_"))


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
