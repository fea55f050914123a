"""``use_precision("fast")``: convolutions with products in bfloat16 on CPUs that have them, and nothing else changed."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import rirn
from rirn.errors import RirnError
from rirn.ops import conv3x3_chain, hold_activations, irm_update, use_backend, use_precision
from rirn.ops.precision import has_fast, trains_fast
from tests.ops.calls import arguments, call
from tests.ops.cases import Case, like_truth
from tests.ops.contract import isas
from tests.ops.test_conv3x3_chain import CASES, RES, UPDATE, WIDE
from tests.tolerances import TABLE, assert_close

pytestmark = pytest.mark.skipif(not isas(), reason="the library is not compiled")


def run(chain, parts, precision):
    with use_backend("cpu"), use_precision(precision), torch.no_grad():
        return conv3x3_chain(*parts, chain.slopes, chain.skips, **chain.shuffles)


def inputs(chain, case):
    return [[t.detach() for t in part] for part in chain.inputs(case)]


@pytest.mark.parametrize(("chain", "case"), CASES, ids=str)
def test_values(chain, case):
    parts = inputs(chain, case)
    found, exact = run(chain, parts, "fast"), run(chain, parts, "exact")
    truth = conv3x3_chain(
        *(like_truth(part) for part in parts),
        chain.slopes,
        chain.skips,
        **chain.shuffles,
        backend="reference",
    )
    assert found.dtype == exact.dtype and found.stride() == exact.stride()
    assert_close(found, truth.detach(), TABLE["conv3x3_chain fast", "output", case.dtype], "output")


def winograd(x, weight, bias):
    """One convolution by F(4x4, 3x3) with factors rounded to bfloat16, everything else in double."""
    a, b = 0.5**0.5, 2**0.5
    bt = torch.tensor(
        [[1, 0, -2.5, 0, 1, 0]]
        + [[0, -2 * p, -2, p, 1, 0] for p in (a, -a)]
        + [[0, -p / 2, -0.5, p, 1, 0] for p in (b, -b)]
        + [[0, 1, 0, -2.5, 0, 1]],
        dtype=torch.float64,
    )
    g = torch.tensor(
        [[1, 0, 0]]
        + [[-2 / 3, -2 / 3 * p, -1 / 3] for p in (a, -a)]
        + [[1 / 6, p / 6, 1 / 3] for p in (b, -b)]
        + [[0, 0, 1]],
        dtype=torch.float64,
    )
    at = torch.tensor(
        [
            [1, 1, 1, 1, 1, 0],
            [0, a, -a, b, -b, 0],
            [0, 0.5, 0.5, 2, 2, 0],
            [0, a / 2, -a / 2, 2 * b, -2 * b, 1],
        ],
        dtype=torch.float64,
    )
    n, _, h, w = x.shape
    tiles = -(-h // 4), -(-w // 4)
    padded = F.pad(x.double(), (1, 4 * tiles[1] + 1 - w, 1, 4 * tiles[0] + 1 - h))
    patches = padded.unfold(2, 6, 4).unfold(3, 6, 4)  # [N, C, tiles, tiles, 6, 6]
    factors = (bt @ patches @ bt.T).bfloat16().double(), (g @ weight.double() @ g.T).bfloat16().double()
    sums = torch.einsum("ncyxij,ocij->noyxij", *factors)
    y = (at @ sums @ at.T).permute(0, 1, 2, 4, 3, 5).reshape(n, -1, 4 * tiles[0], 4 * tiles[1])
    return y[..., :h, :w] + bias.double()[:, None, None]


@pytest.mark.parametrize("channels", [(1, 1), (2, 3), (7, 5), (20, 24), (64, 64)], ids=str)
def test_factors_alone_are_rounded(channels):
    """The rounding is that of an independent computation: not more is rounded, and all pairs of channels meet."""
    generator = torch.Generator().manual_seed(2)
    ci, co = channels
    x = torch.randn(2, ci, 9, 37, generator=generator)
    weight, bias = torch.randn(co, ci, 3, 3, generator=generator), torch.randn(co, generator=generator)
    with use_backend("cpu"), use_precision("fast"):
        found = conv3x3_chain([x], [weight], [bias], [1.0], [False])
    if has_fast():
        assert_close(
            found,
            winograd(x, weight, bias),
            TABLE["conv3x3_chain fast, emulated", "output", "fp32"],
            "output",
        )
    else:
        truth = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
        assert_close(found, truth, TABLE["conv3x3_chain", "output", "fp32"], "output")


@pytest.mark.parametrize("isa", isas())
def test_other_processors_stay_exact(isa, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    parts = inputs(WIDE, Case(1, 0, 19, 67))
    assert torch.equal(run(WIDE, parts, "fast"), run(WIDE, parts, "exact"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists what a processor can do")
def test_processors_that_have_such_products_are_known():
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    assert has_fast() == ("avx512_bf16" in flags)


def test_only_some_bits_change():
    parts = inputs(RES, Case(1, 0, 33, 70))
    assert torch.equal(run(RES, parts, "fast"), run(RES, parts, "exact")) != has_fast()


@pytest.mark.parametrize("case", [Case(1, 0, 41, 66), Case(3, 0, 17, 21)], ids=str)
def test_bits_do_not_depend_on_threads_or_on_the_batch(case, threads):
    parts = inputs(UPDATE, case)
    threads(1)
    expected = run(UPDATE, parts, "fast")
    for count in (2, 3):
        threads(count)
        assert torch.equal(run(UPDATE, parts, "fast"), expected)
    for i in range(case.n):
        alone = [[t[i : i + 1] for t in parts[0]], *parts[1:]]
        assert torch.equal(run(UPDATE, alone, "fast"), expected[i : i + 1])


def test_weights_changed_in_place_are_packed_anew():
    parts = inputs(RES, Case(1, 0, 9, 40))
    before = run(RES, parts, "fast")
    parts[1][0].mul_(2)
    parts[2][0].mul_(2)
    parts[1][1].mul_(0.5)
    assert_close(run(RES, parts, "fast"), before.double(), TABLE["conv3x3_chain", "output", "fp32"], "output")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
def test_irm_update_keeps_the_layout_of_hidden(layout):
    args = arguments("irm_update", Case(2, 6, 19, 40, "fp32", layout))
    exact = call("irm_update", args, "cpu")
    with use_precision("fast"):
        fast = call("irm_update", args, "cpu")
    assert fast.stride() == exact.stride() and torch.equal(fast, exact) != has_fast()
    assert_close(fast, exact.double(), TABLE["conv3x3_chain fast", "output", "fp32"], "output")


def test_derivatives_are_exact():
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*s, generator=generator) for s in ((1, 4, 16, 64), (4, 4, 3, 3)))
    bias, tangent = torch.zeros(4), torch.ones_like(x)

    def loss(x):
        return conv3x3_chain([x], [weight], [bias], [0.0], [False], backend="cpu").square().sum()

    def derivatives():
        leaf = x.clone().requires_grad_()
        value = loss(leaf)
        yield value.detach()
        yield from torch.autograd.grad(value, leaf)
        yield torch.func.grad(loss)(x)
        yield from torch.func.jvp(loss, (x,), (tangent,))
        yield torch.func.vmap(torch.func.grad(loss))(x[None])

    expected = list(derivatives())
    with use_precision("fast"):
        for found, wanted in zip(derivatives(), expected, strict=True):
            assert torch.equal(found, wanted)


def test_compiled_programs_follow():
    parts = inputs(RES, Case(1, 0, 16, 64))

    @torch.compile(fullgraph=True)
    def outside(x):
        return conv3x3_chain([x], *parts[1:], RES.slopes, RES.skips, backend="cpu")

    @torch.compile(fullgraph=True)
    def inside(x):
        with use_precision("fast"):
            return conv3x3_chain([x], *parts[1:], RES.slopes, RES.skips, backend="cpu")

    (x,) = parts[0]
    exact, fast = run(RES, parts, "exact"), run(RES, parts, "fast")
    assert torch.equal(outside(x), exact) and torch.equal(inside(x), fast)
    with use_precision("fast"):
        assert torch.equal(outside(x), fast)
    assert torch.equal(outside(x), exact)


def test_the_block_is_of_this_thread_and_ends():
    parts, found = inputs(RES, Case(1, 0, 16, 64)), []
    exact = run(RES, parts, "exact")

    def call_here():
        return conv3x3_chain(*parts, RES.slopes, RES.skips, backend="cpu")

    with use_precision("fast"):
        thread = threading.Thread(target=lambda: found.append(call_here()))
        thread.start()
        thread.join()
        with use_precision("exact"):
            found.append(call_here())
    with pytest.raises(KeyError), use_precision("fast"):
        raise KeyError
    found.append(call_here())
    assert all(torch.equal(y, exact) for y in found)


def test_unknown_names():
    with (
        pytest.raises(RirnError, match="'quick' is not a precision, choose one of exact, fast"),
        use_precision("quick"),
    ):
        pass
    with pytest.raises(RirnError, match="'quick' is not a precision"):
        rirn.load("rirn-tiny", precision="quick")


def test_models_remember_their_precision():
    exact, fast = rirn.load("rirn-tiny", precision="exact"), rirn.load("rirn-tiny", precision="fast")
    open_ = rirn.load("rirn-tiny")
    frame = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, found = exact.step(frame, None)[0], fast.step(frame, None)[0]
        assert torch.equal(open_.step(frame, None)[0], expected)
        assert torch.equal(fast(frame[:, None])[:, 0], found)
        with use_precision("fast"):
            assert torch.equal(open_.step(frame, None)[0], found)
            assert torch.equal(exact.step(frame, None)[0], expected)
    assert torch.equal(expected, found) != has_fast()
    assert 10 * (found - expected).square().mean().log10() < -65


def test_the_fast_op_has_no_derivative():
    parts = inputs(RES, Case(1, 0, 9, 40))
    parts[0][0].requires_grad_()
    result = torch.ops.rirn.conv3x3_chain_fast(*parts, RES.slopes, [0, 1], False, False)
    with pytest.raises(RuntimeError, match="conv3x3_chain_fast has no derivative: call conv3x3_chain"):
        result.sum().backward()


def test_irm_update_is_a_chain_here_too():
    """``irm_update`` has a form of its own; what runs fast is the chain that it stands for."""
    args = arguments("irm_update", Case(1, 8, 16, 40))
    op = rirn.ops.spec.OPS["irm_update"]
    with use_backend("cpu"), use_precision("fast"):
        assert torch.equal(irm_update(*args), conv3x3_chain(*op.as_chain(*args)[:5]))


def gradients_of(chain, case, most, **precision):
    """The result and every gradient, with so many bytes held."""
    parts = chain.inputs(case)
    with use_backend("cpu"), use_precision(**precision), hold_activations(most):
        out = conv3x3_chain(*parts, chain.slopes, chain.skips, **chain.shuffles)
    leaves = [t for part in parts for t in part]
    generator = torch.Generator().manual_seed(1)
    grad = torch.randn(out.shape, generator=generator).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


FAST = {"name": "fast", "gradients": True}


@pytest.mark.parametrize(
    ("chain", "case"), [(RES, Case(2, 16, 19, 40)), (UPDATE, Case(1, 20, 16, 70, "bf16"))]
)
def test_gradients_of_fast_products(chain, case):
    """Both passes are fast, whether activations are held or made again; the backward pass may run outside of the block."""
    exact = gradients_of(chain, case, 1 << 30, name="fast")
    assert all(map(torch.equal, exact, gradients_of(chain, case, 1 << 30, name="exact")))
    found = gradients_of(chain, case, 1 << 30, **FAST)
    assert all(map(torch.equal, found, gradients_of(chain, case, 0, **FAST)))
    assert torch.equal(found[0], run(chain, inputs(chain, case), "fast"))
    for got, want in zip(found, exact, strict=True):
        assert torch.equal(got, want) != has_fast() or got.dim() == 1
        assert_close(got, want.double(), TABLE["conv3x3_chain fast", "gradient", case.dtype], "gradient")


def test_weight_gradients_of_fast_products_are_sums_in_float32():
    """Of a single layer, whose input and output gradient are given, they are the exact ones."""
    layer = type(RES)((16,), (16,), (1.0,), (False,))
    fast, exact = (gradients_of(layer, Case(2, 16, 19, 40), 0, **p) for p in (FAST, {"name": "exact"}))
    assert torch.equal(fast[2], exact[2]) and torch.equal(fast[3], exact[3])
    assert torch.equal(fast[1], exact[1]) != has_fast()


def test_gradients_in_float64_are_exact():
    case = Case(1, 8, 9, 40, "fp64")
    found, want = (gradients_of(RES, case, 1 << 30, **p) for p in (FAST, {"name": "exact"}))
    assert all(map(torch.equal, found, want))


def test_blocks_end_with_their_gradients():
    with use_precision("fast", gradients=True):
        assert trains_fast() == has_fast()
        with use_precision("fast"):
            assert not trains_fast()
        assert trains_fast() == has_fast()
    assert not trains_fast()
