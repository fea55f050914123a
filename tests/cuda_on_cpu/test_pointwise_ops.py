"""The CUDA kernels of the gates and blends, run on the CPU, against the reference in float64."""

import dataclasses

import pytest
import torch

from rirn.ops import reference
from tests.cuda_on_cpu import build, emulated
from tests.ops import contract, test_atb_blend, test_dtb_blend, test_gates
from tests.ops.cases import Case, atb_inputs
from tests.tolerances import NAMES

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=str(build.why_not()))


def on_emulator(op, constants=()):
    """The same op with its CUDA kernels in place of a backend."""
    return dataclasses.replace(
        op, function=lambda *tensors, backend: emulated.run(op.name, *tensors, constants=constants)
    )


def atb(max_weight):
    """An op under test with a maximum weight fixed."""
    return contract.Op(
        "atb_blend",
        lambda *tensors, backend: emulated.run("atb_blend", *tensors, constants=(max_weight,)),
        lambda *tensors: reference.atb_blend(*tensors, max_weight),
        atb_inputs,
        ("f_prev", "f_cur", "logit_prev", "logit_cur"),
        1,
    )


GATES = [on_emulator(op) for op in (test_gates.RESET, test_gates.UPDATE, test_gates.LSTM)]
DTB = on_emulator(test_dtb_blend.DTB)
ATB = atb(1.3)
OPS = [*GATES, DTB, ATB]
ops = pytest.mark.parametrize("op", OPS, ids=str)
EMULATOR = ("emulator", "cpu")

# Around the 2, 4 or 8 elements of a pack, less than one, and more than a block's packs.
TAILS = [
    *(Case(1, 1, 1, w, dtype) for dtype in NAMES.values() for w in (249, 255, 256, 1030)),
    *(Case(1, 1, 1, w) for w in (1, 3, 33)),
    *(Case(1, 3, 17, 13, dtype) for dtype in NAMES.values()),
    *(Case(2, 8, 3, 16, dtype, layout) for dtype in NAMES.values() for layout in ("contiguous", "channels_last")),
]
# Whatever the pack, these sum over channels in one: along the pixels, or along the channels.
SUMS = [
    *(
        Case(2, c, 4, 16, dtype, layout, logits)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
        for c, logits in ((8, "11"), (40, "C1"), (16, "1C"))
    ),
    Case(1, 3, 1, 8, "fp16", logits="11"),
    Case(1, 264, 1, 2, "fp32", "channels_last", "11"),
    Case(1, 20, 20, 24, "bf16", "contiguous", "11"),
]


@pytest.mark.parametrize("op", GATES, ids=str)
@pytest.mark.parametrize("case", test_gates.CASES + TAILS, ids=str)
def test_gates_against_reference(op, case):
    contract.check_against_reference(op, case, *EMULATOR)


@pytest.mark.parametrize("case", test_dtb_blend.CASES + TAILS + SUMS, ids=str)
def test_dtb_against_reference(case):
    contract.check_against_reference(DTB, case, *EMULATOR)


@pytest.mark.parametrize("case", test_atb_blend.CASES + TAILS + SUMS, ids=str)
def test_atb_against_reference(case):
    contract.check_against_reference(atb(case.max_weight), case, *EMULATOR)


@ops
@pytest.mark.parametrize("case", [Case(2, 8, 7, 8), Case(2, 8, 7, 5, "bf16", "channels_last", "11")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(op, case, layout):
    contract.check_against_reference(op, case, *EMULATOR, layout)


@ops
@pytest.mark.parametrize("logits", ["CC", "11"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_single_gradients(op, logits, layout):
    contract.check_single_gradients(op, Case(2, 8, 5, 3, layout=layout, logits=logits), *EMULATOR)


@pytest.mark.parametrize("op", [DTB, ATB], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_sums_over_nothing_are_zero(op, layout):
    case = Case(2, 0, 3, 3, layout=layout, logits="11")
    inputs = op.make(case)
    found = torch.autograd.grad(op.run(inputs, "emulator"), inputs, [torch.zeros(2, 0, 3, 3)])
    assert all((gradient == 0).all() for gradient in found)


@ops
def test_what_is_not_finite_spreads_as_in_the_reference(op):
    contract.check_nan(op, Case(1, 3, 3, 8), *EMULATOR)


@ops
@pytest.mark.parametrize(
    "case",
    [Case(1, 8, 9, 16, "fp32"), Case(1, 8, 9, 16, logits="11"), Case(1, 12, 3, 7, "bf16", "channels_last", "11")],
    ids=str,
)
def test_the_order_of_threads_changes_no_bit(op, case):
    results = []
    for order in ("fwd", "rev", "rand:1"):
        build.emulator().set_order(order)
        inputs = op.make(case)
        outs = op.run(inputs, "emulator")
        results.append([*outs, *torch.autograd.grad(outs, inputs, contract.random_grads(outs))])
    build.emulator().set_order("fwd")
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def kernels_of(op, case):
    """The names of the kernels that a forward and a backward pass launch."""
    build.emulator().take_launches()
    inputs = op.make(case)
    outs = op.run(inputs, "emulator")
    torch.autograd.grad(outs, inputs, [torch.ones_like(out) for out in outs])
    return [launch.kernel for launch in build.emulator().take_launches()]


FLAT, ONE_BY_ONE = "pointwise<T, kPack<T>, Op>", "pointwise<T, 1, Op>"


@ops
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", NAMES.values())
def test_wide_accesses_are_used(op, layout, dtype):
    """One launch forward and one backward (and one more for beta), in packs; also of the parts of one tensor of gates."""
    kernels = kernels_of(op, Case(2, 8, 3, 8, dtype, layout))
    assert kernels == [FLAT, FLAT] + (["sum_totals<T>"] if op is DTB else [])


@pytest.mark.parametrize("op", [DTB, ATB], ids=str)
@pytest.mark.parametrize(("layout", "along"), [("contiguous", "false"), ("channels_last", "true")])
def test_wide_accesses_are_used_for_sums(op, layout, along):
    sums = f"pointwise_channel_sums<T, kSumPack, {along}, Op>"
    assert kernels_of(op, Case(2, 8, 3, 8, "fp16", layout, "11"))[:2] == [FLAT, sums]


@ops
def test_what_does_not_lie_on_packs_is_taken_one_by_one(op):
    assert kernels_of(op, Case(2, 3, 5, 7, "fp16", "strided"))[:2] == [ONE_BY_ONE, ONE_BY_ONE]
