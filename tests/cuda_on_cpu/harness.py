"""Checks of CUDA kernels that run on the CPU, for the tests of the single ops.

A test of an op is a :class:`Kernel` and a few calls: see ``test_atb_blend.py``. The ops are called as torch calls them, so that
bindings, launchers and kernels are all under test; autograd, which the forms of an op share, is not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.cuda_on_cpu.build import MODE, emulator
from tests.cuda_on_cpu.translate import NAMESPACE
from tests.ops.cases import Case, like_truth
from tests.ops.contract import as_tuple, random_grads
from tests.tolerances import DTYPES, TABLE, assert_close

# Sanitizers see races and stray accesses in any order, and are slow.
ORDERS = ("fwd", "rev", "rand:1") if MODE == "plain" else ("rand:1",)


def odd_counts(layouts: Sequence[str] = ("contiguous", "channels_last"), **case: Any) -> list[Case]:
    """Return cases whose numbers of elements lie around the limits of kernels: 0, 1, around one 128-bit access, around a warp and
    a block; every dtype."""
    found = []
    for dtype, torch_dtype in DTYPES.items():
        pack = 16 // torch_dtype.itemsize
        for width in sorted({0, 1, pack - 1, pack, pack + 1, 33, 257} - ({0} if case else set())):
            found.append(Case(1, 1, 1, width, dtype, layouts[0], **case))
        found += [Case(2, 5, 3, 7, dtype, layout, **case) for layout in layouts]
    return found


def in_every_order(run: Callable[[], Sequence[Tensor]]) -> list[Tensor]:
    """Return what ``run`` returns, which must be the same bits in whatever order threads and blocks take their turns."""
    first = None
    for order in ORDERS:
        emulator().set_order(order)
        found = [t.clone() for t in run()]
        if first is None:
            first = found
        for a, b in zip(first, found, strict=True):
            assert a.dtype == b.dtype and a.stride() == b.stride()
            same = torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))
            assert same or not a.numel(), f"the result depends on the order of the threads ({order})"
    return first


def launches(run: Callable[[], Any]) -> list[str]:
    """Return the kernels that ``run`` launches, as they are named in the source."""
    emulator().take_launches()
    run()
    return [launch.kernel for launch in emulator().take_launches()]


@dataclass(frozen=True)
class Kernel:
    """An op under test.

    ``make`` returns its tensors, in the order of the gradients that its backward op returns; ``arguments`` makes
    the arguments of the op from them. ``like`` is the position of the tensor whose dtype and layout the outputs
    have. ``terms`` returns the scale of the errors of the output where that is not the output itself.
    """

    name: str
    reference: Callable[..., Any]  # of what ``arguments`` returns
    make: Callable[[Case], list[Tensor]]
    inputs: tuple[str, ...]
    like: int = 0
    arguments: Callable[[list[Tensor], Case], tuple[Any, ...]] = lambda tensors, case: tuple(tensors)
    terms: Callable[[Case, list[Tensor]], Tensor] | None = None

    def forward(self, tensors: list[Tensor], case: Case) -> tuple[Tensor, ...]:
        emulator()
        return as_tuple(getattr(getattr(torch.ops, NAMESPACE), self.name)(*self.arguments(tensors, case)))

    def backward(
        self, grads: Sequence[Tensor], tensors: list[Tensor], case: Case, output_mask: int | None = None
    ) -> tuple[Tensor, ...]:
        emulator()
        op = getattr(getattr(torch.ops, NAMESPACE), f"{self.name}_backward")
        output_mask = (1 << len(self.inputs)) - 1 if output_mask is None else output_mask
        return tuple(op(*grads, *self.arguments(tensors, case), output_mask))

    def truth(
        self, grads: Sequence[Tensor], tensors: list[Tensor], case: Case
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return outputs and gradients of the reference in float64."""
        wide = like_truth(tensors)
        outs = as_tuple(self.reference(*self.arguments(wide, case)))
        return outs, torch.autograd.grad(outs, wide, [g.double() for g in grads])


def _plain(kernel: Kernel, case: Case) -> list[Tensor]:
    return [t.detach() for t in kernel.make(case)]


def check(kernel: Kernel, case: Case, grad_layout: str = "plain") -> None:
    """Forward and every gradient against the reference in float64, the same bits in every order of threads."""
    tensors = _plain(kernel, case)
    outs = in_every_order(lambda: kernel.forward(tensors, case))
    grads = random_grads(outs, grad_layout)
    found = in_every_order(lambda: kernel.backward(grads, tensors, case))
    want_outs, want = kernel.truth(grads, tensors, case)
    like = torch.empty_like(tensors[kernel.like])
    terms = kernel.terms(case, tensors) if kernel.terms else None
    for out, expected in zip(outs, want_outs, strict=True):
        assert out.dtype == like.dtype
        assert out.stride() == like.stride()
        assert_close(out, expected, TABLE[kernel.name, "output", case.dtype], "output", terms)
    for name, got, expected in zip(kernel.inputs, found, want, strict=True):
        assert_close(got, expected, TABLE[kernel.name, "gradient", case.dtype], f"gradient of {name}")


def check_single_gradients(kernel: Kernel, case: Case) -> None:
    """Each gradient alone and all but it; what is not wanted comes back without elements."""
    tensors = _plain(kernel, case)
    grads = random_grads(kernel.forward(tensors, case))
    everything = kernel.backward(grads, tensors, case)
    n = len(kernel.inputs)
    for mask in sorted({1 << i for i in range(n)} | {(1 << n) - 1 - (1 << i) for i in range(n)}):
        found = kernel.backward(grads, tensors, case, mask)
        for i, (got, expected) in enumerate(zip(found, everything, strict=True)):
            if mask >> i & 1:
                assert torch.equal(got, expected), (
                    f"gradient of {kernel.inputs[i]} with the output mask {mask:b}"
                )
            else:
                assert got.numel() == 0
