"""The CUDA kernels of conv3x3_chain, run on the CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.cuda_on_cpu.harness import in_every_order, launches
from tests.ops import rounded
from tests.ops.calls import reference
from tests.ops.cases import Case, image, lay_out, like_truth, randn
from tests.tolerances import DTYPES, assert_close

pytestmark = pytest.mark.usefixtures("emulator")


@dataclass(frozen=True)
class Chain:
    """Layers of a chain, and how many channels each of its inputs has."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    slopes: tuple[float, ...]
    skips: tuple[bool, ...]
    unshuffle: bool = False
    shuffle: bool = False

    def __str__(self) -> str:
        return f"{self.inputs}-{self.outputs}" + "u" * self.unshuffle + "s" * self.shuffle

    @property
    def options(self) -> tuple:
        return list(self.slopes), [int(s) for s in self.skips], self.unshuffle, self.shuffle

    def tensors(self, case: Case) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return inputs, weights and biases; H and W are those of the layers."""
        generator = torch.Generator().manual_seed(0)
        factor = 2 if self.unshuffle else 1
        scaled = Case(case.n, case.c, case.h * factor, case.w * factor, case.dtype, case.layout)
        inputs = [image(c, scaled, generator, "cpu").detach() for c in self.inputs]
        widths = [sum(self.inputs) * factor**2, *self.outputs]
        weights = [
            randn(o, i, 3, 3, case=case, generator=generator, device="cpu", scale=(9 * i) ** -0.5).detach()
            for i, o in itertools.pairwise(widths)
        ]
        biases = [
            randn(o, case=case, generator=generator, device="cpu", scale=0.1).detach() for o in self.outputs
        ]
        return inputs, weights, biases


ONE = Chain((5,), (7,), (1,), (False,))
BLOCK = Chain((16,), (16, 16), (0, 1), (False, True))
INPUTS = Chain((4, 12, 4), (20, 20), (0.1, 0.2), (False, True))
ODD = Chain((3, 1, 2), (9, 6, 5), (0.1, 1, 0), (False, True, False))
# More channels than shared memory holds at once, in two blocks of outputs.
WIDE = Chain((68,), (5, 68), (1, 0.1), (False, True))
PHASES = Chain((1, 2), (12, 12), (0, 1), (False, True), unshuffle=True, shuffle=True)

CASES = [
    *((ONE, Case(1, 0, 1, 1, dtype)) for dtype in ("fp16", "bf16", "fp32", "fp64")),
    *((BLOCK, Case(2, 0, 3, 5, dtype, "channels_last")) for dtype in ("fp16", "fp32")),
    (BLOCK, Case(1, 0, 1, 33, "bf16")),
    (INPUTS, Case(1, 0, 9, 2, "fp16", "channels_last")),
    (INPUTS, Case(2, 0, 3, 5, "bf16", "strided")),
    (INPUTS, Case(1, 0, 17, 13, "fp32")),
    *((ODD, Case(2, 0, 5, 3, dtype, "strided")) for dtype in ("fp16", "fp32", "fp64")),
    (ODD, Case(2, 0, 9, 34, "fp32", "channels_last")),
    (ODD, Case(2, 0, 3, 4, "bf16", "expanded")),
    (WIDE, Case(1, 0, 3, 4, "fp16")),
    (WIDE, Case(1, 0, 3, 4, "fp32", "channels_last")),
    (PHASES, Case(1, 0, 3, 5, "fp16", "channels_last")),
    (PHASES, Case(2, 0, 3, 5, "fp32")),
]
ids = pytest.mark.parametrize(("chain", "case"), CASES, ids=str)


def check_chain(
    tensors: tuple[list[Tensor], list[Tensor], list[Tensor]],
    options: tuple[list[float], list[int], bool, bool],
    case: Case,
    grad_layout: Callable[[Tensor], Tensor] = lambda grad: grad,
) -> None:
    """Check conv3x3_chain of inputs, weights and biases, and every gradient; the same bits in every order of threads."""
    inputs, weights, biases = tensors
    flat = [*inputs, *weights, *biases]
    counts = len(inputs), len(inputs) + len(weights)
    ops = torch.ops.rirn_on_cpu
    [out] = in_every_order(lambda: [ops.conv3x3_chain(inputs, weights, biases, *options)])
    wide = like_truth(flat)
    parts = wide[: counts[0]], wide[counts[0] : counts[1]], wide[counts[1] :]
    want = rounded.chain(*parts, *options, dtype=DTYPES[case.dtype])
    rounded.assert_close_to_rounded("conv3x3_chain", "output", case, out, want, "output")
    channels_last = inputs[0].shape[1] > 1 and inputs[0].stride(1) == 1
    assert out.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    grad = torch.randn(want.shape, generator=torch.Generator().manual_seed(9)).to(out)
    wanted = torch.autograd.grad(want, wide, grad.double())
    slope = options[0][-1]  # the op takes the gradient in front of the last activation
    before = grad_layout(torch.where(out > 0, grad, slope * grad))
    output_mask = (1 << len(flat)) - 1
    found = in_every_order(
        lambda: ops.conv3x3_chain_backward(before, inputs, weights, biases, *options, output_mask)
    )
    for i, (got, expected, t) in enumerate(zip(found, wanted, flat, strict=True)):
        assert got.stride() == torch.empty_like(t).stride()
        rounded.assert_close_to_rounded("conv3x3_chain", "gradient", case, got, expected, f"gradient {i}")


SMALL_CHAIN = Chain((3, 6), (9, 9), (0.1, 1), (False, True))
SMALL = [
    (SMALL_CHAIN, Case(1, 0, 9, 3, "fp16")),  # two blocks
    (SMALL_CHAIN, Case(1, 0, 9, 3, "fp32", "channels_last")),
    (SMALL_CHAIN, Case(1, 0, 1, 3, "bf16")),
    (Chain((68,), (4,), (0,), (False,)), Case(1, 0, 1, 2, "fp16")),
]


@pytest.mark.parametrize(("chain", "case"), SMALL, ids=str)
def test_small(chain: Chain, case: Case) -> None:
    check_chain(chain.tensors(case), chain.options, case)


def test_small_with_weights_kept() -> None:
    chain = Chain((9,), (9, 9), (1, 1), (False, False))
    inputs, weights, biases = chain.tensors(Case(1, 0, 1, 3, "fp16"))
    ops = torch.ops.rirn_on_cpu
    both = weights, [w.transpose(0, 1) for w in weights]  # at one address
    want = [ops.conv3x3_chain(inputs, each, biases, *chain.options) for each in both]
    ops.open_packed()
    try:
        for _ in range(2):
            for each, out in zip(both, want, strict=True):
                found = ops.conv3x3_chain(inputs, each, biases, *chain.options)
                assert torch.equal(found, out)
    finally:
        ops.close_packed()


@ids
def test_against_reference(chain: Chain, case: Case) -> None:
    check_chain(chain.tensors(case), chain.options, case)


@pytest.mark.parametrize("layout", ["channels_last", "transposed"])
def test_gradient_from_above_in_any_layout(layout: str) -> None:
    case = Case(2, 0, 3, 5, "fp16")
    check_chain(BLOCK.tensors(case), BLOCK.options, case, grad_layout=lambda grad: lay_out(grad, layout))


def test_channels_last_weights() -> None:
    case = Case(1, 0, 3, 5, "bf16")
    inputs, weights, biases = BLOCK.tensors(case)
    weights = [w.contiguous(memory_format=torch.channels_last) for w in weights]
    check_chain((inputs, weights, biases), BLOCK.options, case)


@pytest.mark.parametrize("output_mask", [0b1, 0b10_0000, 0b100_0000, 0b1001_0000])
def test_only_the_gradients_that_are_wanted(output_mask: int) -> None:
    """Of two inputs, three weights and three biases."""
    chain = Chain((1, 2), (3, 3, 4), (0.1, 0, 1), (False, True, False))
    for dtype in ("fp16", "fp32"):
        case = Case(1, 0, 3, 5, dtype)
        inputs, weights, biases = chain.tensors(case)
        ops = torch.ops.rirn_on_cpu
        out = ops.conv3x3_chain(inputs, weights, biases, *chain.options)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out)
        everything = ops.conv3x3_chain_backward(grad, inputs, weights, biases, *chain.options, 255)
        found = ops.conv3x3_chain_backward(grad, inputs, weights, biases, *chain.options, output_mask)
        for i, (got, expected) in enumerate(zip(found, everything, strict=True)):
            assert torch.equal(got, expected) if output_mask >> i & 1 else got.numel() == 0


def test_weight_gradient_of_more_tiles_than_parts() -> None:
    """Sums go over several tiles where there are more than 256."""
    inputs, weights, biases = ONE.tensors(Case(260, 0, 1, 1, "fp16"))
    grad = torch.randn(260, 7, 1, 1, generator=torch.Generator().manual_seed(1)).half()
    ops = torch.ops.rirn_on_cpu
    _, weight, bias = ops.conv3x3_chain_backward(grad, inputs, weights, biases, *ONE.options, 0b110)
    assert_close(bias, grad.double().sum((0, 2, 3)), rounded.STEPS["fp16"])
    middle = torch.einsum("noyx,niyx->oi", grad.double(), inputs[0].double())
    assert_close(weight[:, :, 1, 1], middle, rounded.STEPS["fp16"])
    assert not weight[:, :, ::2].any() and not weight[..., ::2].any()


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_one_launch_per_layer(dtype: str) -> None:
    inputs, weights, biases = ODD.tensors(Case(1, 0, 1, 1, dtype))
    found = launches(lambda: torch.ops.rirn_on_cpu.conv3x3_chain(inputs, weights, biases, *ODD.options))
    kernels = [name.partition("<")[0] for name in found]
    assert kernels == (["conv3x3_pack", *["conv3x3_mma"] * 3] if dtype == "fp16" else ["conv3x3_ffma"] * 3)


def test_no_images() -> None:
    inputs, weights, biases = BLOCK.tensors(Case(0, 0, 3, 5, "fp16"))
    ops = torch.ops.rirn_on_cpu
    out = ops.conv3x3_chain(inputs, weights, biases, *BLOCK.options)
    assert out.shape == (0, 16, 3, 5)
    found = ops.conv3x3_chain_backward(out, inputs, weights, biases, *BLOCK.options, 31)
    assert all(
        g.shape == t.shape and not g.any() for g, t in zip(found, [*inputs, *weights, *biases], strict=True)
    )


def test_an_infinity_below_a_relu_leaves_nothing() -> None:
    inputs, weights, biases = ONE.tensors(Case(1, 0, 3, 4, "fp32"))
    biases = [torch.full_like(b, -torch.inf) for b in biases]
    out = torch.ops.rirn_on_cpu.conv3x3_chain(inputs, weights, biases, [0.0], [0], False, False)
    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
def test_gradients_pass_a_nan_as_they_do_in_the_reference(dtype: str, slope: float) -> None:
    """A rectifier whose result is NaN is no closed one: ReLU lets the gradient through, leaky ReLU scales it."""
    chain = Chain((3,), (4, 2), (slope, 1), (False, False))
    inputs, weights, biases = chain.tensors(Case(1, 0, 5, 6, dtype))
    inputs[0][0, 1, 2, 3] = torch.nan
    grad = torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(1)).to(inputs[0])
    grad[0, 1, 0, 0] = torch.nan
    found, *_ = torch.ops.rirn_on_cpu.conv3x3_chain_backward(grad, inputs, weights, biases, *chain.options, 1)
    wide = like_truth([*inputs, *weights, *biases])
    out = reference.conv3x3_chain(wide[:1], wide[1:3], wide[3:], *chain.options)
    (want,) = torch.autograd.grad(out, wide[:1], grad.double())
    assert torch.equal(found.isnan(), want.isnan()) and want[0, :, 2, 3].isfinite().all()
    assert_close(found.nan_to_num(), want.nan_to_num(), rounded.STEPS["fp16"])


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_an_infinity_at_the_right_edge_makes_no_nan_of_the_weights_gradient(dtype: str) -> None:
    """Tiles are 16 pixels wide: beyond the edge of the second one the gradient is 0, next to it the input is infinite."""
    inputs, weights, biases = ONE.tensors(Case(1, 0, 2, 17, dtype))
    inputs[0][0, 2, 1, 16] = torch.inf
    grad = torch.ones(1, 7, 2, 17).to(inputs[0])
    _, found, _ = torch.ops.rirn_on_cpu.conv3x3_chain_backward(
        grad, inputs, weights, biases, *ONE.options, 0b010
    )
    wide = like_truth([*inputs, *weights, *biases])
    (want,) = torch.autograd.grad(
        reference.conv3x3_chain(wide[:1], wide[1:2], wide[2:], *ONE.options), wide[1], grad.double()
    )
    assert not found.isnan().any() and torch.equal(found.isinf(), want.isinf())


# Its inputs take a little more than every device allows unasked.
HUNGRY = Chain((64,), (4,), (1,), (False,))


@pytest.fixture
def device(emulator):
    """Makes a device the current one."""
    yield emulator.set_device
    emulator.set_device(0)
    emulator.set_shared_limit(227 << 10)


def test_shared_memory_is_asked_for_once_per_device(emulator, device) -> None:
    arguments = *HUNGRY.tensors(Case(1, 0, 1, 1, "bf16")), *HUNGRY.options
    wider = Chain((64,), (8,), (1,), (False,))  # the same kernel
    more = *wider.tensors(Case(1, 0, 1, 1, "bf16")), *wider.options
    for number, requests in ((1, 1), (2, 1), (1, 0), (99, 2)):  # the last one is not remembered
        device(number)
        emulator.take_requests()
        torch.ops.rirn_on_cpu.conv3x3_chain(*arguments)
        torch.ops.rirn_on_cpu.conv3x3_chain(*more)
        assert emulator.take_requests() == requests


def test_shared_memory_that_the_device_refuses(emulator, device) -> None:
    arguments = *HUNGRY.tensors(Case(1, 0, 1, 1, "fp16")), *HUNGRY.options
    device(3)
    emulator.set_shared_limit(48 << 10)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match="bytes of shared memory for a block, which the CUDA device refuses"
        ):
            torch.ops.rirn_on_cpu.conv3x3_chain(*arguments)
    device(0)
    emulator.set_shared_limit(227 << 10)
    torch.ops.rirn_on_cpu.conv3x3_chain(*arguments)  # the error is not left for the next op


def test_more_inputs_than_the_kernel_reads() -> None:
    inputs = [torch.zeros(1, 1, 2, 2) for _ in range(9)]
    with pytest.raises(RuntimeError, match="at most 8 inputs; got 9"):
        torch.ops.rirn_on_cpu.conv3x3_chain(
            inputs, [torch.zeros(1, 9, 3, 3)], [torch.zeros(1)], [1.0], [0], False, False
        )
