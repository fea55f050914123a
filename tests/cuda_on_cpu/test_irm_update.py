"""The CUDA kernels of irm_update, run on the CPU, against the reference in float64."""

import pytest
import torch

from tests.cuda_on_cpu.harness import in_every_order, launches
from tests.ops import rounded
from tests.ops.calls import reference
from tests.ops.cases import Case, irm_inputs, like_truth
from tests.tolerances import DTYPES, TABLE, assert_close

pytestmark = pytest.mark.usefixtures("emulator")

# Tiles are 32 x 16 pixels, 24 x 16 for 32 channels, and 32 x 8 layer by layer.
CASES = [
    Case(1, 16, 1, 1, "fp16"),
    Case(2, 16, 3, 5, "bf16", "channels_last"),
    Case(1, 16, 5, 13, "fp16", "strided"),
    Case(2, 20, 3, 5, "bf16", "channels_last"),
    Case(1, 32, 1, 25, "fp16", "channels_last"),
    Case(1, 32, 2, 3, "bf16"),
    *(Case(1, c, 3, 5, dtype) for c in (1, 3, 5) for dtype in ("fp16", "fp32")),
    Case(2, 3, 17, 13, "bf16", "channels_last"),
    Case(2, 20, 3, 33, "fp32"),
    Case(1, 32, 3, 5, "fp32", "channels_last"),
    Case(1, 3, 3, 5, "fp64", "transposed"),
    Case(2, 3, 4, 5, "fp32", "expanded"),
    Case(0, 4, 3, 3, "fp16"),
]
GRADIENT_CASES = [
    Case(1, 10, 2, 3, "fp16", "channels_last"),
    Case(1, 16, 1, 3, "bf16"),
    Case(2, 3, 3, 5, "fp16", "strided"),
    Case(2, 5, 9, 33, "fp32", "channels_last"),
    Case(1, 1, 1, 1, "fp32"),
    Case(1, 3, 3, 5, "fp64"),
    Case(0, 4, 3, 3, "fp32"),
]
LAYERS = 6
SLOPES, SKIPS = (0, 0, 1, 0, 1, 1), (False, False, True, False, True, False)


def split(flat):
    return flat[0], flat[1], flat[2 : 2 + LAYERS], flat[2 + LAYERS :]


def update(inputs):
    return torch.ops.rirn_on_cpu.irm_update(*split([t.detach() for t in inputs]))


def backward(inputs, grad, output_mask=(1 << 14) - 1):
    return torch.ops.rirn_on_cpu.irm_update_backward(grad, *split([t.detach() for t in inputs]), output_mask)


def truth(inputs, grad):
    """Return the gradients of the reference, every layer rounded."""
    wide = like_truth(inputs)
    hidden, inner, weights, biases = split(wide)
    dtype = inputs[0].dtype
    out = rounded.chain([hidden, inner], weights, biases, SLOPES, SKIPS, dtype=dtype)
    return torch.autograd.grad(out, wide, grad.double())


def random_grad(inputs):
    shape = inputs[0].shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(9)).to(inputs[0])


def check_forward(case):
    inputs = irm_inputs(case)
    [out] = in_every_order(lambda: [update(inputs)])
    assert out.dtype == inputs[0].dtype
    assert out.stride() == torch.empty_like(inputs[0]).stride()
    wide = like_truth(inputs)
    assert_close(out, reference.irm_update(*split(wide)), TABLE["irm_update", "output", case.dtype], "output")
    hidden, inner, weights, biases = split(wide)
    want = rounded.chain([hidden, inner], weights, biases, SLOPES, SKIPS, dtype=DTYPES[case.dtype])
    rounded.assert_close_to_rounded("irm_update", "output", case, out, want, "output, every layer rounded")


# Four blocks, one of them full to its last pixel; two; one.
SMALL = [Case(1, 16, 17, 33, "fp16"), Case(1, 20, 1, 33, "fp16"), Case(1, 16, 1, 3, "bf16")]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case):
    check_forward(case)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward(case):
    check_forward(case)


@pytest.mark.parametrize("case", GRADIENT_CASES, ids=str)
def test_gradients(case):
    inputs = irm_inputs(case)
    grad = random_grad(inputs)
    found = in_every_order(lambda: backward(inputs, grad))
    for i, (got, want, t) in enumerate(zip(found, truth(inputs, grad), inputs, strict=True)):
        assert got.stride() == torch.empty_like(t).stride()
        rounded.assert_close_to_rounded("irm_update", "gradient", case, got, want, f"gradient {i}")


@pytest.mark.parametrize("output_mask", [0b1, 0b10, 0b100, 1 << 13, 0b1_0000_0010_0000])
def test_only_the_gradients_that_are_wanted(output_mask):
    inputs = irm_inputs(Case(1, 3, 3, 5, "fp16"))
    grad = random_grad(inputs)
    for i, (got, want) in enumerate(
        zip(backward(inputs, grad, output_mask), backward(inputs, grad), strict=True)
    ):
        assert torch.equal(got, want) if output_mask >> i & 1 else got.numel() == 0


@pytest.mark.parametrize(("c", "count"), [(16, 3), (20, 3), (32, 3), (12, 7)])
def test_launches(c, count):
    """16, 20 and 32 channels: weights brought in order, and two kernels of three layers."""
    inputs = irm_inputs(Case(1, c, 1, 1, "fp16"))
    assert len(launches(lambda: update(inputs))) == count


def test_a_nan_stays_where_the_reference_lets_it():
    inputs = [t.detach() for t in irm_inputs(Case(1, 16, 17, 21, "bf16"))]
    inputs[0][0, 3, 8, 10] = torch.nan
    want = reference.irm_update(*split(like_truth(inputs)))
    assert torch.equal(update(inputs).isnan(), want.isnan())
