"""Every Triton kernel in the lab, against the reference in float64: values, gradients, bounds, races.

test_kernels.py runs this file in a process of its own, since Triton reads at import whether to interpret. The cases
are few and small, as an interpreted program takes milliseconds; the tests of the ops run the same kernels on many
more where there is a GPU.
"""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from rirn.ops import atb_blend, conv3x3_chain
from rirn.ops._register import define_triton
from tests.ops import contract
from tests.ops.calls import reference
from tests.ops.cases import Case, atb_inputs, lay_out_parameter, like_truth
from tests.ops.test_dtb_blend import DTB
from tests.ops.test_fac import FAC
from tests.ops.test_gates import GATES, LSTM, UPDATE
from tests.ops.test_irm_update import IRM
from tests.tolerances import DTYPES, TABLE, assert_close, row_of


def quick_and_slow(quick, slow):
    """The slow ones run in `make test-slow`."""
    return [*quick, *(pytest.param(case, marks=pytest.mark.slow) for case in slow)]


def atb(case, inputs, backend):
    return atb_blend(*inputs, max_weight=case.max_weight, backend=backend)


def irm(case, inputs, backend):
    return IRM.function(*inputs, backend=backend)


def check(op, case, inputs, run, truth):
    """Compare result and all gradients with the truth."""
    out = run(case, inputs, "triton")
    (grad,) = contract.random_grads([out])
    found = torch.autograd.grad(out, inputs, grad)
    wide = like_truth(inputs)
    want = truth(case, wide)
    assert out.dtype == inputs[0].dtype
    assert_close(out, want, TABLE[op, "output", case.dtype], "output")
    want_grads = torch.autograd.grad(want, wide, grad.double())
    for i, (got, expected) in enumerate(zip(found, want_grads, strict=True)):
        assert_close(got, expected, TABLE[op, "gradient", case.dtype], f"gradient {i}")


ATB_CASES = quick_and_slow(
    [Case(2, 3, 5, 7, "bf16"), Case(2, 37, 3, 13, "fp32", "channels_last", "C1", 1.3)],
    [
        *(Case(2, 3, 5, 7, dtype) for dtype in ("fp32", "fp16", "fp64")),
        Case(2, 5, 7, 5, "bf16", "channels_last", "11", 2.0),
        Case(1, 3, 40, 61, "fp16", "sliced", "1C"),
        Case(2, 3, 5, 4, "fp32", "transposed", "11"),
    ],
)


@pytest.mark.parametrize("case", ATB_CASES, ids=str)
def test_atb_blend(case):
    def truth(case, wide):
        return reference.atb_blend(*wide, case.max_weight)

    check("atb_blend", case, atb_inputs(case), atb, truth)


POINTWISE = quick_and_slow(
    [Case(2, 3, 5, 7), Case(2, 5, 7, 9, "bf16", "channels_last")],
    [
        Case(2, 3, 5, 7, "fp16"),
        Case(2, 3, 5, 7, "fp64"),
        Case(1, 3, 19, 23, "fp16", "sliced"),
        Case(2, 3, 5, 4, "fp32", "strided"),
    ],
)


@pytest.mark.parametrize("case", POINTWISE, ids=str)
@pytest.mark.parametrize("op", [*GATES, DTB], ids=str)
def test_pointwise(op, case):
    contract.check_against_reference(op, case, "triton", "cpu")


@pytest.mark.parametrize(
    "case", [Case(2, 5, 7, 9, "bf16", "channels_last", "11"), Case(2, 3, 40, 31, logits="11")], ids=str
)
def test_dtb_blend_with_one_weight_per_pixel(case):
    contract.check_against_reference(DTB, case, "triton", "cpu")


@pytest.mark.parametrize(
    "case",
    quick_and_slow(
        [Case(1, 2, 2, 3)],
        [
            Case(1, 2, 4, 5),
            Case(1, 3, 7, 5, "fp16", "channels_last"),
            Case(1, 1, 1, 3, "bf16"),
            Case(1, 1, 3, 1, "fp64", "strided"),
        ],
    ),
    ids=str,
)
def test_fac(case):
    contract.check_against_reference(FAC, case, "triton", "cpu")


@pytest.mark.parametrize(
    "case",
    quick_and_slow(
        [Case(1, 3, 3, 4)],
        [
            Case(2, 2, 3, 11, "fp32", "channels_last"),
            Case(1, 20, 9, 8, "bf16", "channels_last"),
            Case(1, 16, 9, 8, "fp16"),
        ],
    ),
    ids=str,
)
def test_irm(case):
    def truth(case, wide):
        return IRM.reference(*wide)

    check(row_of(IRM.name, "triton", case.dtype), case, IRM.make(case), irm, truth)


def chain_inputs(case, channels_in, channels, side=1):
    generator = torch.Generator().manual_seed(1)

    def randn(*shape, scale=1.0):
        made = scale * torch.randn(*shape, generator=generator, dtype=torch.float64)
        return made.to(DTYPES[case.dtype])

    images = [randn(case.n, c, side * case.h, side * case.w) for c in channels_in]
    reads = [sum(channels_in) * side**2, *channels[:-1]]
    weights = [randn(o, i, 3, 3, scale=(9 * i) ** -0.5) for i, o in zip(reads, channels, strict=True)]
    biases = [randn(o, scale=0.1) for o in channels]
    return [t.requires_grad_() for t in (*images, *weights, *biases)]


@pytest.mark.parametrize(
    ("channels_in", "channels", "slopes", "skips", "unshuffle", "shuffle"),
    [
        ([3], [3, 3], [0.0, 1.0], [False, True], False, False),
        ([2, 1], [3, 3], [0.1, 0.0], [False, True], False, False),
        pytest.param([2, 1, 3, 2], [5], [0.1], [False], False, False, marks=pytest.mark.slow),
        pytest.param([1, 1, 1, 1, 1], [2], [1.0], [False], False, False, marks=pytest.mark.slow),
        pytest.param([2], [8, 4], [0.0, 1.0], [False, False], True, True, marks=pytest.mark.slow),
        pytest.param([2], [8, 8], [0.0, 0.2], [False, True], True, False, marks=pytest.mark.slow),
    ],
)
def test_conv3x3_chain(channels_in, channels, slopes, skips, unshuffle, shuffle):
    case = Case(2, 0, 4, 5)
    inputs = chain_inputs(case, channels_in, channels, 2 if unshuffle else 1)
    n, m = len(channels_in), len(channels)

    def run(case, tensors, backend):
        parts = tensors[:n], tensors[n : n + m], tensors[n + m :]
        return conv3x3_chain(*parts, slopes, skips, unshuffle=unshuffle, shuffle=shuffle, backend=backend)

    def truth(case, wide):
        return reference.conv3x3_chain(
            wide[:n], wide[n : n + m], wide[n + m :], slopes, skips, unshuffle, shuffle
        )

    check("conv3x3_chain", case, inputs, run, truth)


def test_parameters_in_any_layout():
    image, *parameters = chain_inputs(Case(1, 0, 3, 4), [2], [3])
    inputs = [image, *map(lay_out_parameter, parameters)]

    def run(case, tensors, backend):
        return conv3x3_chain(tensors[:1], tensors[1:2], tensors[2:], [0.1], [False], backend=backend)

    def truth(case, wide):
        return reference.conv3x3_chain(wide[:1], wide[1:2], wide[2:], [0.1], [False])

    check("conv3x3_chain", Case(1, 0, 3, 4), inputs, run, truth)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_gradients_pass_an_activation_that_is_nan(slope):
    """ReLU lets them through there, leaky ReLU scales them."""
    tensors, options = chain_inputs(Case(1, 0, 3, 4), [2], [3, 2]), ([slope, 1.0], [False, False])
    tensors[3].data[1] = torch.nan  # a channel between the layers

    def gradient(run, inputs, **more):
        out = run(inputs[:1], inputs[1:3], inputs[3:], *options, **more)
        return torch.autograd.grad(out, inputs[0], torch.ones_like(out))[0]

    found = gradient(conv3x3_chain, tensors, backend="triton")
    want = gradient(reference.conv3x3_chain, like_truth(tensors))
    assert want.isfinite().all()
    assert_close(found, want, TABLE["conv3x3_chain", "gradient", "fp32"], "input")


@pytest.mark.slow
def test_gradients_repeat_bit_for_bit():
    results = []
    for _ in range(2):
        inputs = IRM.make(Case(1, 2, 5, 4))
        results.append(torch.autograd.grad(irm(None, inputs, "triton").sum(), inputs))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.slow
def test_only_wanted_gradients_are_computed():
    contract.check_single_gradients(DTB, Case(1, 2, 3, 3, logits="11"), "triton", "cpu")
    contract.check_single_gradients(LSTM, Case(1, 2, 3, 3), "triton", "cpu")


@pytest.mark.parametrize("op", [UPDATE, FAC], ids=str)
def test_opcheck(op):
    define_triton(op.name)
    inputs = op.make(Case(1, 2, 2, 3))
    torch.library.opcheck(getattr(torch.ops.rirn, f"triton_{op}").default, tuple(inputs))


@triton.jit
def past_the_end(p_out, BLOCK: tl.constexpr):
    tl.store(p_out + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), 1.0)


@triton.jit
def overlapping(p_out, BLOCK: tl.constexpr):
    tl.store(p_out + tl.program_id(0) * (BLOCK // 2) + tl.arange(0, BLOCK), 1.0)


@triton.jit
def passing_on(p_out, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(p_out + at + BLOCK, tl.load(p_out + at))


@triton.jit
def twice(p_out, BLOCK: tl.constexpr):
    tl.store(p_out + tl.arange(0, BLOCK) // 2, 1.0)


@triton.jit
def in_bfloat16(p_in, p_out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(p_out + at, tl.load(p_in + at) + tl.load(p_in + at))


@triton.jit
def rounded(p_in, p_out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(p_out + at, tl.load(p_in + at).to(tl.bfloat16))


@triton.jit
def multiplied(p_a, p_b, p_out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    tl.store(p_out + at, tl.dot(tl.load(p_a + at), tl.load(p_b + at)))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (past_the_end, "out of bounds: 24 lanes of a store in program 1"),
        (overlapping, "a race: program 1 writes p_out where program 0 writes"),
        (passing_on, "a race: program 1 reads p_out which program 0 writes"),
        (twice, "writes an element of p_out twice"),
    ],
)
def test_the_lab_catches(kernel, message):
    with pytest.raises(Exception, match=message):
        kernel[(2 if kernel is not passing_on else 3,)](
            torch.zeros(104 if kernel is past_the_end else 300), BLOCK=64
        )


def test_the_lab_rounds_bfloat16_to_nearest_even():
    x = torch.cat([torch.randn(60), torch.tensor([torch.nan, torch.inf, 1 + 2**-8, 1 + 3 * 2**-8])])
    out = torch.empty(64, dtype=torch.bfloat16)
    rounded[(1,)](x, out, BLOCK=64)
    assert torch.equal(out.nan_to_num(7), x.bfloat16().nan_to_num(7))


def test_the_lab_multiplies_bfloat16_and_refuses_other_arithmetic_on_it():
    a, b = torch.randn(2, 16, 16).bfloat16()
    out = torch.empty(16, 16)
    multiplied[(1,)](a, b, out, BLOCK=16)
    torch.testing.assert_close(out, a.float() @ b.float())
    with pytest.raises(Exception, match="cast to float32 first"):
        in_bfloat16[(1,)](a.view(-1), b.view(-1), BLOCK=64)
