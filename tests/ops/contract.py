"""What every fused op with tensor arguments promises, as checks that the tests of the ops call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rirn import ops
from rirn.ops._library import library
from rirn.ops.spec import OPS
from tests.ops.calls import arguments
from tests.ops.cases import Case, like_truth
from tests.tolerances import TABLE, assert_close

ISAS = ("generic", "avx2", "avx512")  # avx512_bf16 is the same where products are exact


@dataclass(frozen=True)
class Op:
    """An op under test: ``state`` is the position of the input whose dtype and layout the outputs have."""

    name: str
    function: Callable[..., Any]
    reference: Callable[..., Any]
    make: Callable[..., list[Tensor]]
    inputs: tuple[str, ...]
    state: int

    def __str__(self) -> str:
        return self.name

    def run(self, inputs: Sequence[Tensor], backend: str) -> tuple[Tensor, ...]:
        return as_tuple(self.function(*inputs, backend=backend))

    def truth(self, inputs: Sequence[Tensor], grads: Sequence[Tensor]) -> tuple[Sequence[Tensor], ...]:
        """Return outputs and gradients of the reference in float64."""
        wide = like_truth(list(inputs))
        outs = as_tuple(self.reference(*wide))
        return outs, torch.autograd.grad(outs, wide, [g.cpu().double() for g in grads])

    def tolerance(self, kind: str, case: Case):
        return TABLE[self.name, kind, case.dtype]


def of(name: str) -> Op:
    """An op whose arguments are tensors, from its description."""
    op = OPS[name]
    inputs = tuple(op.signature.parameters)

    def make(case: Case, device: str = "cpu", seed: int = 0) -> list[Tensor]:
        return [t.requires_grad_() for t in arguments(name, case, device, seed=seed)]

    return Op(name, getattr(ops, name), op.reference, make, inputs, inputs.index(op.like))


def as_tuple(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def isas() -> tuple[str, ...]:
    """Return the variants of the CPU kernels that this machine can run."""
    return ISAS[: ISAS.index(library().isa.removesuffix("_bf16")) + 1] if library().loaded else ()


def random_grads(outs: Sequence[Tensor], layout: str = "plain") -> list[Tensor]:
    """Return gradients from above like ``outs``, also ones that lie unlike them in memory."""
    generator = torch.Generator().manual_seed(9)
    grads = [torch.randn(out.shape, generator=generator).to(out) for out in outs]
    if layout == "expanded":
        return [g.mean().expand(g.shape) for g in grads]
    if layout == "transposed":
        return [g.mT.contiguous().mT for g in grads]
    return grads


def check_against_reference(op: Op, case: Case, backend: str, device: str, layout: str = "plain") -> None:
    inputs = op.make(case, device)
    outs = op.run(inputs, backend)
    grads = random_grads(outs, layout)
    found = torch.autograd.grad(outs, inputs, grads)
    want_outs, want = op.truth(inputs, grads)
    like = torch.empty_like(inputs[op.state])
    for out, expected in zip(outs, want_outs, strict=True):
        assert out.dtype == like.dtype
        assert out.stride() == like.stride()
        assert_close(out.cpu(), expected, op.tolerance("output", case), "output")
    for name, got, expected in zip(op.inputs, found, want, strict=True):
        assert_close(got.cpu(), expected, op.tolerance("gradient", case), f"gradient of {name}")


def check_single_gradients(op: Op, case: Case, backend: str, device: str) -> None:
    """Each gradient alone, and all but it."""
    grads = random_grads(op.run(op.make(case, device), backend))
    _, want = op.truth(op.make(case, device), grads)
    n = len(op.inputs)
    for mask in {1 << i for i in range(n)} | {(1 << n) - 1 - (1 << i) for i in range(n)}:
        inputs = [t.requires_grad_(bool(mask >> i & 1)) for i, t in enumerate(op.make(case, device))]
        if not mask:
            continue
        torch.autograd.backward(op.run(inputs, backend), grads)
        for i, t in enumerate(inputs):
            assert (t.grad is not None) == bool(mask >> i & 1)
            if t.grad is not None:
                assert_close(t.grad.cpu(), want[i], op.tolerance("gradient", case), op.inputs[i])


def check_repeats(op: Op, case: Case, backend: str, device: str, threads: Callable[[int], None]) -> None:
    """The same bits again and on another number of threads."""
    results = []
    for count in (1, 2, 2):
        threads(count)
        inputs = op.make(case, device)
        outs = op.run(inputs, backend)
        results.append([*outs, *torch.autograd.grad(outs, inputs, random_grads(outs))])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def check_saves_only_its_inputs(op: Op, case: Case, backend: str, device: str) -> None:
    inputs = op.make(case, device)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        op.run(inputs, backend)
    assert {t.data_ptr() for t in saved} == {t.data_ptr() for t in inputs}
    assert len(saved) == len(inputs)


def check_nan(op: Op, case: Case, backend: str, device: str) -> None:
    """A NaN or an infinity in any input goes where the reference lets it go, forward and backward."""
    for value in (torch.nan, torch.inf, -torch.inf):
        for i in range(len(op.inputs)):
            inputs = op.make(case, device)
            with torch.no_grad():
                inputs[i].view(-1)[inputs[i].numel() // 2] = value
            outs = op.run(inputs, backend)
            grads = random_grads(outs)
            want_outs, want = op.truth(inputs, grads)
            found = (*outs, *torch.autograd.grad(outs, inputs, grads))
            for got, expected in zip(found, (*want_outs, *want), strict=True):
                same = got.cpu().isfinite() == expected.isfinite()
                assert same.all(), f"{value} in {op.inputs[i]}"
