"""The CUDA kernels of fac, run on the CPU."""

from __future__ import annotations

import dataclasses

import pytest
from torch import Tensor

from tests.cuda_on_cpu.harness import Kernel, check, check_single_gradients
from tests.cuda_on_cpu.pointwise_cases import kernels
from tests.ops.cases import Case
from tests.ops.test_fac import CASES, FAC
from tests.tolerances import NAMES

pytestmark = pytest.mark.usefixtures("emulator")

KERNEL = Kernel(FAC.name, FAC.reference, FAC.make, FAC.inputs, FAC.state)
# Rows of packs: one tile and less, more than one in a row, in a column, and both; the borders of the image and of the tiles.
ROWS = [
    *(Case(1, 2, 3, w, dtype) for dtype in NAMES.values() for w in (8, 16)),
    *(
        Case(2, 1, 5, w, dtype)
        for dtype, w in (("fp64", 20), ("fp32", 36), ("fp32", 64), ("fp16", 72), ("bf16", 136))
    ),
    Case(1, 1, 33, 40),
    Case(1, 2, 35, 72, "fp16"),
    Case(1, 1, 1, 72, "bf16"),
    Case(1, 1, 2, 8, "fp16"),
    Case(2, 2, 4, 16, "fp32", "expanded"),
]


SMALL = [
    Case(1, 2, 3, 8),
    Case(1, 1, 34, 36),  # two tiles in a row and in a column
    Case(1, 1, 2, 72, "fp16"),
    Case(1, 1, 1, 8, "bf16"),
    Case(1, 2, 5, 3, "fp16", "channels_last"),
    Case(1, 2, 2, 5, "fp32", "sliced"),
    Case(1, 3, 10, 9, "fp16", "channels_last"),  # more than a block, and no whole number of packs
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case) -> None:
    check(KERNEL, case)
    check_single_gradients(KERNEL, case)


def test_small_row_that_ends_within_a_pack() -> None:
    """Part of a wider tensor, so that everything but the width fits packs."""

    def narrowed(case: Case) -> list[Tensor]:
        return [t.detach()[..., :13] for t in FAC.make(dataclasses.replace(case, w=16))]

    check(dataclasses.replace(KERNEL, make=narrowed), Case(1, 1, 1, 13))


@pytest.mark.parametrize("case", [*CASES, *ROWS], ids=str)
def test_against_reference(case: Case) -> None:
    check(KERNEL, case)


@pytest.mark.parametrize("layouts", [("channels_last", "contiguous"), ("contiguous", "channels_last")])
def test_features_and_kernels_of_different_layouts(layouts: tuple[str, str]) -> None:
    def mixed(case: Case) -> list[Tensor]:
        features, kernels = (FAC.make(dataclasses.replace(case, layout=layout)) for layout in layouts)
        return [features[0], kernels[1]]

    check(dataclasses.replace(KERNEL, make=mixed), Case(2, 5, 6, 8))


@pytest.mark.parametrize("case", [Case(2, 3, 7, 16), Case(1, 9, 4, 5, "bf16", "channels_last")], ids=str)
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case: Case, layout: str) -> None:
    check(KERNEL, case, layout)


@pytest.mark.parametrize("case", [Case(2, 2, 5, 8), Case(2, 2, 5, 3)], ids=str)
def test_single_gradients(case: Case) -> None:
    check_single_gradients(KERNEL, case)


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        (Case(1, 1, 3, 8, "fp16"), "rows<T, kPack<T>>"),
        (Case(1, 1, 3, 9, "fp16"), "strided<T>"),
        (Case(1, 2, 3, 8, "fp32", "channels_last"), "channels_last<T>"),
        (Case(1, 2, 3, 8, "fp32", "transposed"), "strided<T>"),
    ],
    ids=str,
)
def test_packs_are_used_where_there_are_such(case: Case, kind: str) -> None:
    assert kernels(KERNEL, case) == [f"fac_{kind}", f"fac_backward_{kind}"]
