"""How chains of convolutions go to threads: evenly by count, and with the same bits for any number of them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import rirn
from rirn.ops import use_backend, use_precision
from rirn.ops.spec import OPS
from tests.ops.calls import Recorder
from tests.ops.cases import Case
from tests.ops.contract import isas
from tests.ops.test_conv3x3_chain import BLOCKS, RES, UPDATE, Chain

pytestmark = pytest.mark.skipif(not isas(), reason="the library is not compiled")

SIZES = [(17, 13), (34, 60), (90, 160), (180, 320), (540, 960), (2160, 3840)]
THREADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
BODY = Chain((64,), (64, 64), (0.0, 1.0), (False, True))
PIXELS = Chain((64,), (60, 20), (0.0, 1.0), (False, False), shuffle=True)


def balance(n: int, h: int, w: int, channels: list[int], threads: int) -> float:
    """Work over the time of all threads, counted by the code that shares it out."""
    found: float = torch.ops.rirn.conv3x3_chain_balance(n, h, w, channels, threads)
    return found


@functools.cache
def chains(name: str, height: int, width: int) -> list[tuple[int, int, int, list[int]]]:
    """N, H, W and channels of each chain of a network's step amid a video."""
    model, state = rirn.load(name), None
    with torch.inference_mode(), use_backend("cpu"):
        for _ in range(6):
            _, state = model.step(torch.zeros(1, 3, height, width), state)
        with Recorder() as record:
            model.step(torch.zeros(1, 3, height, width), state)
    found = []
    for op, args in record.calls:
        if op in OPS and OPS[op].as_chain is not None:
            images, weights, _, _, _, unshuffle, _ = OPS[op].as_chain(*args)
            n, _, h, w = images[0].shape
            halved = 2 if unshuffle else 1
            found.append(
                (n, h // halved, w // halved, [weights[0].shape[1], *(len(weight) for weight in weights)])
            )
    return found


def work(n: int, h: int, w: int, channels: list[int]) -> int:
    return n * h * w * sum(a * b for a, b in itertools.pairwise(channels))


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(("threads", "least"), [(2, 0.85), (4, 0.9), (8, 0.9), (16, 0.88), (64, 0.55)])
def test_a_small_video_keeps_many_threads_busy(threads, least, isa, monkeypatch):
    """``rirn-small`` at 480x270, whose features are 60x34."""
    found = chains("rirn-small", 270, 480)
    assert len(found) > 20 and (1, 34, 60, [64, 64, 64]) in found
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    time = sum(work(*chain) / balance(*chain, threads) for chain in found)
    assert sum(work(*chain) for chain in found) / time >= least


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [[64, 64, 64], [16, 32], [40, 40, 40, 40, 40, 40, 20]], ids=str)
def test_more_threads_take_less_time(size, channels):
    speedups = [threads * balance(1, *size, channels, threads) for threads in THREADS]
    assert speedups[0] == 1
    for slower, faster, threads in zip(speedups, speedups[1:], THREADS[1:], strict=False):
        assert slower <= faster * (1 + 1e-9) <= threads * (1 + 1e-9)
        if size[0] >= 90 and threads <= 16:
            assert faster / threads >= 0.7


def forward_and_gradients(chain: Chain, case: Case, call: Callable[..., Tensor]) -> list[Tensor]:
    parts = chain.inputs(case)
    leaves = [t.detach().requires_grad_() for part in parts for t in part]
    images, rest = leaves[: len(parts[0])], leaves[len(parts[0]) :]
    weights, biases = rest[: len(parts[1])], rest[len(parts[1]) :]
    out = call(images, weights, biases, chain.slopes, chain.skips, **chain.shuffles, backend="cpu")
    generator = torch.Generator().manual_seed(1)
    return [out.detach(), *torch.autograd.grad(out, leaves, torch.randn(out.shape, generator=generator))]


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(
    ("chain", "case"),
    [
        (BODY, Case(1, 0, 34, 60)),  # threads share the registers of a row
        (BODY, Case(3, 0, 9, 21)),  # images side by side
        (BLOCKS, Case(1, 0, 70, 33)),  # too few channels to share
        (UPDATE, Case(2, 0, 17, 13)),
        (RES, Case(1, 0, 3, 130)),
        (PIXELS, Case(1, 0, 34, 60)),  # two channels of the last layer share rows of the result
    ],
    ids=str,
)
def test_any_number_of_threads_gives_the_same_bits(isa, chain, case, threads, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    threads(1)
    expected = forward_and_gradients(chain, case, rirn.ops.conv3x3_chain)
    for count in (2, 4, 7, 16, 40):
        threads(count)
        found = forward_and_gradients(chain, case, rirn.ops.conv3x3_chain)
        assert all(map(torch.equal, found, expected)), f"{count} threads"


@pytest.mark.parametrize("count", [4, 16])
def test_shared_registers_in_the_fast_mode(count, threads):
    parts = [[t.detach() for t in part] for part in BODY.inputs(Case(1, 0, 34, 60))]
    found = []
    for used in (1, count):
        threads(used)
        with use_precision("fast"):
            found.append(rirn.ops.conv3x3_chain(*parts, BODY.slopes, BODY.skips, backend="cpu"))
    assert torch.equal(*found)
