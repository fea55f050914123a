"""The CUDA kernels of atb_update, run on the CPU."""

import pytest
import torch
import torch.nn.functional as F

from tests.cuda_on_cpu.harness import in_every_order, launches
from tests.ops import rounded
from tests.ops.cases import Case, image, randn
from tests.tolerances import DTYPES, assert_close

pytestmark = pytest.mark.usefixtures("emulator")

SLOPE, DECAY, MAX_WEIGHT = 0.1, 0.9, 1.5
CASES = [
    # two and three groups of 8 channels in a block; one to three blocks, and more channels than shared memory holds at once
    Case(1, 1, 1, 1, "bf16"),
    Case(2, 5, 3, 5, "fp16", "strided"),
    Case(2, 20, 9, 3, "bf16", "channels_last"),
    Case(1, 28, 2, 33, "fp16"),
    Case(1, 40, 3, 2, "bf16"),
    Case(1, 72, 2, 3, "fp16", "channels_last"),
    Case(0, 4, 3, 3, "fp16"),
]


def tensors(case):
    """Features, weights and biases."""
    generator = torch.Generator().manual_seed(0)
    sizes = [2 * case.c, *[case.c] * 4]
    made = {"case": case, "generator": generator, "device": "cpu"}
    features = [image(case.c, case, generator, "cpu").detach() for _ in range(2)]
    weights = [randn(c, c, 3, 3, scale=2 * (9 * c) ** -0.5, **made).detach() for c in sizes]
    return *features, weights, [randn(c, scale=0.5, **made).detach() for c in sizes]


def update(case):
    return torch.ops.rirn_on_cpu.atb_update(*tensors(case), SLOPE, DECAY, MAX_WEIGHT)


def truth(case):
    """In float64; rounded where the kernels store."""
    f_cur, f_prev, weights, biases = tensors(case)

    def conv(x, layer):
        return F.conv2d(x, weights[layer].double(), biases[layer].double(), padding=1)

    def store(x):
        return rounded.Round.apply(x, DTYPES[case.dtype])

    f_cur, f_prev = f_cur.double(), f_prev.double()
    halves = store(conv(torch.cat([f_cur, f_prev], 1), 0)).chunk(2, 1)
    logits = [
        conv(store(F.leaky_relu(conv(u, k), SLOPE)), k + 1) for u, k in zip(halves, (1, 3), strict=True)
    ]
    gates = DECAY * logits[0].sigmoid(), MAX_WEIGHT * logits[1].sigmoid()
    return gates[0] * f_prev + gates[1] * f_cur


def check(case):
    [out] = in_every_order(lambda: [update(case)])
    like = torch.empty_like(tensors(case)[0])
    assert out.dtype == like.dtype and out.stride() == like.stride()
    assert_close(out, truth(case), rounded.STEPS[case.dtype], "output")


SMALL = [Case(1, 12, 9, 3, "fp16"), Case(1, 36, 1, 2, "fp16"), Case(1, 12, 1, 3, "bf16")]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case):
    check(case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_against_its_equation(case):
    check(case)


def test_launches():
    found = [name.partition("<")[0] for name in launches(lambda: update(Case(1, 16, 1, 1, "fp16")))]
    assert found == ["conv3x3_pack", "conv3x3_mma", "conv3x3_mma_pair", "atb_gates"]


def test_it_checks_for_itself():
    f_cur, f_prev, weights, biases = tensors(Case(1, 2, 3, 3, "fp16"))
    op, options = torch.ops.rirn_on_cpu.atb_update, (SLOPE, DECAY, MAX_WEIGHT)
    with pytest.raises(RuntimeError, match=r"f_prev must be \w+ \[1, 2, 3, 3\]"):
        op(f_cur, f_prev[..., :2], weights, biases, *options)
    with pytest.raises(RuntimeError, match="must be 5 each; got 4 weights and 5 biases"):
        op(f_cur, f_prev, weights[:4], biases, *options)
    with pytest.raises(
        RuntimeError, match=r"weights\[4\] must be \w+ \[2, 2, 3, 3\] .* got \w+ \[4, 4, 3, 3\]"
    ):
        op(f_cur, f_prev, [*weights[:4], weights[0]], biases, *options)
    wide = [[t.float() for t in group] for group in (weights, biases)]
    with pytest.raises(RuntimeError, match="takes float16 and bfloat16; got Float"):
        op(f_cur.float(), f_prev.float(), *wide, *options)
