"""Without any switch, the same call gives the same bits again, on each backend; and on another number of threads the same but for
the order of sums."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from rirn import ops
from rirn.ops.spec import OPS
from tests.models.cases import small, video
from tests.ops.calls import arguments, call
from tests.ops.cases import Case
from tests.tolerances import NAMES


def _arguments(op: str, n: int, c: int, h: int, w: int, dtype: torch.dtype):
    return tree_flatten(arguments(op, Case(n, c, h, w, NAMES[dtype])))


def leaves_of(op: str, n: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Tensors for a call of an op, which all want gradients."""
    flat, _ = _arguments(op, n, c, h, w, dtype)
    return [leaf.requires_grad_() for leaf in flat if isinstance(leaf, Tensor)]


def forward_and_gradients(op: str, leaves: Sequence[Tensor], backend: str) -> list[Tensor]:
    """Results and the gradients of all tensors, given as :func:`leaves_of` gives them."""
    flat, spec = _arguments(op, 1, 1, 2, 2, leaves[0].dtype)
    tensors = iter(leaves)
    args = tree_unflatten([next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in flat], spec)
    found = call(op, args, backend)
    outs = found if isinstance(found, tuple) else (found,)
    generator = torch.Generator().manual_seed(3)
    grads = [torch.randn(out.shape, generator=generator).to(out.dtype) for out in outs]
    return [*outs, *torch.autograd.grad(outs, leaves, grads)]


@pytest.mark.parametrize("backend", ("reference", "cpu"))
@pytest.mark.parametrize("op", OPS)
def test_an_op_repeats_itself_on_any_number_of_threads(op, backend, threads):
    assert not torch.are_deterministic_algorithms_enabled()
    leaves = leaves_of(op, 2, 5, 33, 40)
    runs = {}
    for count in (1, 2, 3):
        threads(count)
        runs[count] = forward_and_gradients(op, leaves, backend)
        again = forward_and_gradients(op, leaves, backend)
        assert all(map(torch.equal, runs[count], again)), f"{count} threads"
    for count in (2, 3):
        for one, several in zip(runs[1], runs[count], strict=True):
            if backend == "cpu":  # a promise of the kernels: sums are cut without regard to threads
                assert torch.equal(one, several)
            else:
                torch.testing.assert_close(one, several, rtol=1e-5, atol=1e-5 * one.abs().max().item())


@pytest.mark.parametrize("backend", ("reference", "cpu"))
def test_a_training_step_repeats_itself_on_any_number_of_threads(backend, threads):
    model = small("ifi-rnn+rirn", torch.float32).train().requires_grad_()
    clip, parameters = video(1, 2, 3, 32, 36).float(), list(model.parameters())

    def gradients():
        with ops.use_backend(backend):
            return torch.autograd.grad(model(clip).square().mean(), parameters, allow_unused=True)

    runs = {}
    for count in (1, 2, 3):
        threads(count)
        runs[count] = [g for g in gradients() if g is not None]
        assert all(map(torch.equal, runs[count], [g for g in gradients() if g is not None])), count
    for count in (2, 3):
        for one, several in zip(runs[1], runs[count], strict=True):
            torch.testing.assert_close(one, several, rtol=1e-4, atol=1e-5 * one.abs().max().item())
