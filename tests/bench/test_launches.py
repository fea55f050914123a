"""Launches, bytes and operations counted without a GPU, against small cases counted by hand."""

import doctest

import pytest
import torch

from rirn import ops
from rirn.bench import launches
from rirn.bench.launches import Cost, LaunchCounter
from rirn.models import create_model
from rirn.nn import ATB, IRM
from rirn.nn.blocks import ResBlock
from rirn.ops import _register, use_backend
from rirn.ops._library import library
from rirn.ops.backends import assume
from rirn.ops.spec import OPS

compiled = pytest.mark.skipif(not library().loaded, reason=str(library().reason))


def meta(*shape, dtype=torch.float32):
    return torch.empty(shape, dtype=dtype, device="meta")


def counted(call, *inputs):
    with LaunchCounter() as counter:
        call(*inputs)
    return counter.cost


@pytest.mark.parametrize(
    ("call", "launched", "elements"),
    [
        (lambda x: x.view(6).reshape(2, 3).T.detach().expand(4, 3, 2), 0, 0),
        (lambda x: torch.empty_like(x).new_empty(3), 0, 0),
        (lambda x: x + 1, 1, 12),
        (lambda x: x.relu_(), 1, 12),
        (lambda x: x + x[:, :1], 1, 6 + 2 + 6),
        (lambda x: x[:1].expand(5, 3) * 2, 1, 3 + 15),
        (lambda x: torch.cat([x, x]), 1, 24),
        (lambda x: x.clone().zero_(), 2, 12 + 6),
        (lambda x: torch.empty_like(x).copy_(x), 1, 12),
        (lambda x: x.new_zeros(3), 1, 3),
        (lambda x: torch.sigmoid(x).mul(x).sum(), 3, 12 + 18 + 7),
    ],
)
def test_library_calls_by_hand(call, launched, elements):
    assert counted(call, meta(2, 3)) == Cost(launched, 4 * elements, 0)


def test_products_count_as_operations():
    weight, bias, x = meta(5, 3, 3, 3), meta(5), meta(2, 3, 4, 7)
    moved = weight.numel() + 5 + x.numel() + 2 * 5 * 4 * 7
    found = counted(lambda: torch.nn.functional.conv2d(x, weight, bias, padding=1))
    assert found == Cost(1, 4 * moved, 2 * weight.numel() * 2 * 4 * 7)
    in_place = counted(lambda: meta(1, 2, 4).baddbmm_(meta(1, 2, 3), meta(1, 3, 4)))
    assert in_place == Cost(1, 4 * (8 + 6 + 12 + 8), 2 * 2 * 3 * 4)


def test_eager_irm_by_hand():
    """Concatenation, six convolutions, three rectifiers and two sums of images of 2c channels; the last layer makes c."""
    c, pixels = 2, 5 * 7
    with torch.device("meta"), use_backend("reference"), torch.no_grad():
        irm, x = IRM(c), torch.empty(1, c, 5, 7)
        found = counted(lambda: irm(hidden=x, inner=x))
    images = 4 * c + 5 * 4 * c + 3 * 4 * c + 2 * 6 * c + 3 * c
    parameters = sum(p.numel() for p in irm.parameters())
    weights = sum(p.numel() for p in irm.parameters() if p.dim() == 4)
    assert found == Cost(12, 4 * (images * pixels + parameters), 2 * weights * pixels)


@compiled
def test_fused_blend_by_hand():
    x = meta(1, 3, 4, 5)
    with assume("cpu"):
        assert counted(ops.atb_blend, x, x, x, x) == Cost(1, 4 * 5 * 60, 0)


@compiled
def test_the_whole_of_atb_is_one_op_on_cuda_without_a_gradient():
    atb, x = ATB(16).to("meta", torch.float16), meta(1, 16, 40, 70, dtype=torch.float16)
    with assume("cuda"), torch.no_grad(), LaunchCounter() as counter:
        atb(f_prev=x, f_cur=x)
    assert counter.calls == ["atb_update"]
    with assume("cuda"), LaunchCounter() as counter:
        atb(f_prev=x, f_cur=x)  # with a gradient it is taken apart
    assert "atb_update" not in counter.calls and "atb_blend" in counter.calls


@compiled
def test_what_follows_a_convolution_of_the_library_is_one_op_on_cuda_without_a_gradient(monkeypatch):
    """Bias, skip connection and activation; ``auto`` leaves blocks of 96 channels to torch."""
    monkeypatch.setattr(_register, "_device", lambda op, args: torch.device("cuda"))
    block, x = ResBlock(96).to("meta"), meta(1, 96, 40, 70)

    def calls():
        with LaunchCounter() as counter:
            block(x)
        return counter.calls

    plain = ["convolution", "relu", "convolution", "add"]
    with assume("cuda"):
        assert calls() == plain
        with torch.no_grad():
            assert calls() == ["convolution", "conv_epilogue"] * 2
    with assume("reference"), torch.no_grad():
        assert calls() == plain


@compiled
def test_a_step_on_a_gpu_needs_no_phases():
    with torch.device("meta"), assume("cuda"), torch.no_grad():
        model = create_model("ifi-rnn+rirn").eval()
        frame = torch.empty(1, 3, 48, 160)
        _, state = model.step(frame, None)
        with LaunchCounter() as counter:
            model.step(frame, state)
    assert "convolution" in counter.calls
    assert len(OPS.keys() & set(counter.calls)) == 3, "chains, IRM and ATB"
    assert not {"pixel_unshuffle", "baddbmm", "flip", "stack"} & set(counter.calls)


def test_examples():
    found = doctest.testmod(launches)
    assert found.attempted and not found.failed
