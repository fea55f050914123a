"""Gates at the ends of what they can be: an open one is exact, a closed one lets nothing through that could be seen."""

from __future__ import annotations

import pytest
import torch

from rirn import ops
from tests.tolerances import DTYPES

SHAPE = (1, 3, 4, 5)
CLOSED = 1e-36
"""The sigmoid of the CPU kernels in float32 ends at 2e-38, that of the reference at 0; times a feature or two."""
BACKENDS = ("reference", "cpu")
KINDS = ("large", "largest", "infinite")


def features(dtype: torch.dtype, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(SHAPE, generator=generator, dtype=torch.float64).to(dtype)


def logits(dtype: torch.dtype, kind: str, sign: int) -> torch.Tensor:
    """Far beyond where a sigmoid in float64 is 0 or 1."""
    value = {"large": 1e4, "largest": torch.finfo(dtype).max, "infinite": torch.inf}[kind]
    return torch.full(SHAPE, sign * value, dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_gates_that_are_fully_open_or_closed(backend, dtype, kind):
    dtype = DTYPES[dtype]
    a, b = features(dtype, 0), features(dtype, 1)
    opened, closed = logits(dtype, kind, 1), logits(dtype, kind, -1)
    same = {"backend": backend}
    assert torch.equal(ops.atb_blend(a, b, opened, closed, **same), a)
    assert torch.equal(ops.atb_blend(a, b, closed, opened, **same), b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gradient_goes_through_a_saturated_gate(backend, dtype):
    dtype = DTYPES[dtype]
    a, b = features(dtype, 0), features(dtype, 1)
    gates = [logits(dtype, "largest", sign).requires_grad_() for sign in (1, -1)]
    out = ops.atb_blend(a.requires_grad_(), b.requires_grad_(), *gates, backend=backend)
    grads = torch.autograd.grad(out.sum(), (a, b, *gates))
    assert torch.equal(grads[0], torch.ones_like(a))
    for grad in grads[1:]:
        assert grad.abs().max() <= CLOSED  # and not NaN


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_finite_stays_where_it_is(backend):
    """A pixel that is NaN or infinite reaches its own place and nothing else; a closed gate does not stop it."""
    for value in (torch.nan, torch.inf, -torch.inf):
        a, b = features(torch.float32, 0), features(torch.float32, 1)
        a[0, 1, 2, 3] = value
        closed = logits(torch.float32, "infinite", -1)
        out = ops.atb_blend(a, b, closed, -closed, backend=backend)
        assert not out[0, 1, 2, 3].isfinite()
        out[0, 1, 2, 3] = b[0, 1, 2, 3]
        assert torch.equal(out, b)
