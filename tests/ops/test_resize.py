"""Images of half and of twice the size: the kernels against PyTorch, and where they run."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rirn.ops import use_backend
from rirn.ops.resize import NAMES, enlarge_onto, halve
from tests.ops.calls import Recorder
from tests.ops.contract import isas
from tests.tolerances import TABLE, assert_close

pytestmark = pytest.mark.skipif(not isas(), reason="the library is not compiled")

# Of the small image. Less than a register and around one of 4, 8 or 16 lanes, one row, several threads' work.
SHAPES = [
    *((1, 1, 1, w) for w in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33)),
    (2, 3, 5, 7),
    (1, 3, 2, 24),
    (3, 1, 40, 100),
    (1, 3, 100, 320),
    (0, 3, 2, 2),
]


def images(m, c, h, w):
    generator = torch.Generator().manual_seed(0)
    small, large = (
        torch.randn(m, c, h, w, generator=generator),
        torch.randn(m, c, 2 * h, 2 * w, generator=generator),
    )
    return small, large


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(shape, isa, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    small, large = images(*shape)
    found = torch.ops.rirn.halve(large, 0.5), torch.ops.rirn.enlarge_onto(small, large, 0.3)
    if not shape[0]:
        assert [t.shape for t in found] == [small.shape, large.shape]
        return
    x, onto = small.double(), large.double()
    truth = (
        F.interpolate(onto, scale_factor=0.5, mode="bilinear") - 0.5,
        onto + 0.3 * F.interpolate(x, scale_factor=2, mode="bilinear"),
    )
    for got, want in zip(found, truth, strict=True):
        assert got.is_contiguous()
        assert_close(got, want, TABLE["resize", "output", "fp32"], "output")


def calls(*args):
    with Recorder() as record:
        (halve if len(args) == 2 else enlarge_onto)(*args)
    return [op for op, _ in record.calls if op in NAMES]


def test_where_the_kernels_run():
    small, large = images(1, 3, 4, 6)
    with torch.no_grad():
        assert calls(large, 0.5) == ["halve"] and calls(small, large, 1) == ["enlarge_onto"]
        for other in (
            large.half(),
            large.double(),
            large[..., ::2],
            large.to(memory_format=torch.channels_last),
        ):
            assert calls(other, 0.5) == []
        with use_backend("reference"):
            assert calls(large, 0.5) == calls(small, large, 1) == []
    assert calls(large, 0.5) == ["halve"]
    assert calls(large.requires_grad_(), 0.5) == calls(small, large, 1) == []


@pytest.mark.parametrize("scale", [0.3, 1])
def test_gradients(scale):
    small, large = (t.double().requires_grad_() for t in images(1, 2, 3, 4))
    assert torch.autograd.gradcheck(lambda s, x: (halve(x, 0.5), enlarge_onto(s, x, scale)), (small, large))


def test_transforms():
    small, large = images(2, 3, 4, 6)
    for f, args in (
        (lambda x: halve(x, 0), (large,)),
        (lambda s, x: enlarge_onto(s, x, 0.3), (small, large)),
    ):
        want = f(*args)
        torch.testing.assert_close(torch.func.vmap(f)(*(t[:, None] for t in args))[:, 0], want)
        tangent = torch.func.jvp(f, args, args)[1]
        torch.testing.assert_close(tangent, want)  # both are linear


def test_they_check_for_themselves():
    small, large = images(1, 3, 4, 6)
    with pytest.raises(RuntimeError, match="images must have even H and W"):
        torch.ops.rirn.halve(large[..., :5].contiguous(), 0.0)
    with pytest.raises(RuntimeError, match="images must be contiguous float32"):
        torch.ops.rirn.halve(large[..., ::2], 0.0)
    with pytest.raises(RuntimeError, match=r"onto must be \w+ \[1, 3, 8, 12\]"):
        torch.ops.rirn.enlarge_onto(small, small, 1.0)
    with pytest.raises(RuntimeError, match="halve has no derivative"):
        torch.ops.rirn.halve(large.requires_grad_(), 0.0).sum().backward()
