"""The CUDA kernels of fac, run on the CPU, against the reference in float64."""

import dataclasses

import pytest
import torch

from tests.cuda_on_cpu import build, emulated
from tests.ops import contract, test_fac
from tests.ops.cases import Case
from tests.tolerances import NAMES

pytestmark = pytest.mark.skipif(build.why_not() is not None, reason=str(build.why_not()))

FAC = dataclasses.replace(test_fac.FAC, function=lambda *tensors, backend: emulated.run("fac", *tensors))
EMULATOR = ("emulator", "cpu")

# Rows of packs: one tile and less, more than one in a row, in a column, and both; the borders of the image and of the tiles.
ROWS = [
    *(Case(1, 2, 3, w, dtype) for dtype in NAMES.values() for w in (8, 16)),
    *(Case(2, 1, 5, w, dtype) for dtype, w in (("fp64", 20), ("fp32", 36), ("fp32", 64), ("fp16", 72), ("bf16", 136))),
    Case(1, 1, 33, 40),
    Case(1, 2, 35, 72, "fp16"),
    Case(1, 1, 1, 72, "bf16"),
    Case(1, 1, 2, 8, "fp16"),
    Case(2, 2, 4, 16, "fp32", "expanded"),
]
cases = pytest.mark.parametrize("case", test_fac.CASES + ROWS, ids=str)


@cases
def test_against_reference(case):
    contract.check_against_reference(FAC, case, *EMULATOR)


@pytest.mark.parametrize("layouts", [("channels_last", "contiguous"), ("contiguous", "channels_last")])
def test_features_and_kernels_of_different_layouts(layouts):
    def mixed(case, device="cpu"):
        made = [FAC.make(Case(2, 5, 6, 8, layout=layout), device) for layout in layouts]
        return [made[0][0], made[1][1]]

    contract.check_against_reference(dataclasses.replace(FAC, make=mixed), Case(2, 5, 6, 8), *EMULATOR)


@pytest.mark.parametrize("case", [Case(2, 3, 7, 16), Case(1, 9, 4, 5, "bf16", "channels_last")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case, layout):
    contract.check_against_reference(FAC, case, *EMULATOR, layout)


@pytest.mark.parametrize("case", [Case(2, 2, 5, 8), Case(2, 2, 5, 3)], ids=str)
def test_single_gradients(case):
    contract.check_single_gradients(FAC, case, *EMULATOR)


def test_what_is_not_finite_spreads_as_in_the_reference():
    contract.check_nan(FAC, Case(1, 2, 4, 8), *EMULATOR)


@pytest.mark.parametrize("case", [Case(1, 2, 34, 36), Case(1, 2, 6, 7, "bf16", "channels_last")], ids=str)
def test_the_order_of_threads_changes_no_bit(case):
    results = []
    for order in ("fwd", "rev", "rand:1"):
        build.emulator().set_order(order)
        inputs = FAC.make(case)
        outs = FAC.run(inputs, "emulator")
        results.append([*outs, *torch.autograd.grad(outs, inputs, contract.random_grads(outs))])
    build.emulator().set_order("fwd")
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (Case(1, 1, 3, 8, "fp16"), "rows<T, kPack<T>>"),
        (Case(1, 1, 3, 9, "fp16"), "strided<T>"),
        (Case(1, 2, 3, 8, "fp32", "channels_last"), "strided<T>"),
    ],
    ids=str,
)
def test_rows_of_packs_are_used_where_they_lie_so(case, kind):
    build.emulator().take_launches()
    inputs = FAC.make(case)
    outs = FAC.run(inputs, "emulator")
    torch.autograd.grad(outs, inputs, contract.random_grads(outs))
    assert [launch.kernel for launch in build.emulator().take_launches()] == [f"fac_{kind}", f"fac_backward_{kind}"]
