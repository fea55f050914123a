"""Kernel launches, bytes and operations of a program, counted while fake tensors pass through it: nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")
"""Library calls that launch nothing though they do not say that they are views."""

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
"""Library calls that do not read their first argument: they write to it, or make something like it."""


@dataclass(frozen=True)
class Access:
    """What one launch reads or writes of one tensor."""

    tensor: str
    bytes: int
    """Each element once: what has to come from or go to device memory whatever the caches hold."""
    requested: int
    """With every repetition that the instructions ask for."""


def access(name: str, tensor: Tensor, times: int = 1) -> Access:
    """Each element of a tensor ``times`` over; what lies behind a stride of 0 is one element."""
    return Access(name, size_of(tensor), times * size_of(tensor))


@dataclass(frozen=True)
class Launch:
    """One kernel launch."""

    kernel: str
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]
    flops: int = 0
    """Operations of convolutions and matrix products, those on padding and on halos too; others are not counted."""


@dataclass(frozen=True)
class Cost:
    """Sums over launches."""

    launches: int = 0
    bytes: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.launches + other.launches, self.bytes + other.bytes, self.flops + other.flops)

    def in_dtype(self, dtype: torch.dtype) -> Cost:
        """The same launches on elements of another size, of a cost that was counted in float32."""
        return Cost(self.launches, self.bytes * dtype.itemsize // torch.float32.itemsize, self.flops)


def total(launches: Iterable[Launch]) -> Cost:
    """Add up launches."""
    costs = [Cost(1, sum(a.bytes for a in (*x.reads, *x.writes)), x.flops) for x in launches]
    return sum(costs, Cost())


def size_of(tensor: Tensor) -> int:
    """Bytes of the distinct elements of a tensor."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return math.prod(side if stride else min(side, 1) for side, stride in sides) * tensor.element_size()


Formula = Callable[..., Sequence[Launch]]


class LaunchCounter(TorchDispatchMode):
    """Counts every library call as one launch that reads its inputs and writes its outputs once; views and allocations are
    free. Ops of rirn count as their formula says, which gets the arguments of the op.

    A call that launches several kernels, such as the backward pass of a convolution or a convolution that adds its bias in a
    second one, counts as one that touches every tensor once: the count flatters the library.

    Args:
        formulas: launches of rirn's ops, by name.

    Example:
        >>> import torch
        >>> from rirn.bench.launches import LaunchCounter
        >>> x = torch.empty(100, device="meta")
        >>> with LaunchCounter() as counter:
        ...     y = (x.view(10, 10) + 1).relu_()
        >>> counter.cost
        Cost(launches=2, bytes=1600, flops=0)
    """

    def __init__(self, formulas: Mapping[str, Formula] | None = None):
        super().__init__()
        self.formulas = formulas or {}
        self.cost = Cost()
        self.calls: list[tuple[str, Cost]] = []
        """Every call that launches something, in order."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if func.namespace == "rirn":
            cost = total(self.formulas[name](*args, **kwargs))
        elif func.namespace != "aten" or func.is_view or name in FREE or not _tensors(out):
            return out
        else:
            cost = _library_call(func, name, args, kwargs, out)
        self.cost += cost
        self.calls.append((name, cost))
        return out


def _library_call(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Cost:
    read = _tensors((args, kwargs))
    if name in FILLING:
        read = read[1:]
    count = flop_registry.get(getattr(torch.ops.aten, name.removesuffix("_")))  # in place or not
    flops = 0 if count is None else count(*args, **kwargs, out_val=out)
    return Cost(1, sum(map(size_of, (*read, *_tensors(out)))), flops)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
