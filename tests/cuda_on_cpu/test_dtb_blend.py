"""The CUDA kernels of dtb_blend, run on the CPU."""

from __future__ import annotations

import pytest
import torch

from tests.cuda_on_cpu.harness import Kernel, check, check_single_gradients
from tests.cuda_on_cpu.pointwise_cases import PACKS, SUMS, TAILS, TOTALS, kernels, sums
from tests.ops.cases import Case
from tests.ops.test_dtb_blend import CASES, DTB
from tests.tolerances import NAMES

pytestmark = pytest.mark.usefixtures("emulator")

KERNEL = Kernel(DTB.name, DTB.reference, DTB.make, DTB.inputs, DTB.state)


SMALL = [
    Case(1, 1, 5, 7),  # packs and three elements more
    Case(1, 2, 9, 16),  # several warps
    Case(1, 8, 2, 8, "fp16", "contiguous", "11"),
    Case(1, 12, 2, 5, "fp16", "channels_last", "11"),
    Case(2, 3, 5, 3, "fp32", "strided", "11"),
    Case(3, 1, 3, 5, "fp32", "sliced"),  # not aligned to 16 bytes
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case) -> None:
    check(KERNEL, case)
    check_single_gradients(KERNEL, case)


@pytest.mark.parametrize("case", [*CASES, *TAILS, *SUMS], ids=str)
def test_against_reference(case: Case) -> None:
    check(KERNEL, case)


@pytest.mark.parametrize("layout", ["expanded", "transposed"])
@pytest.mark.parametrize("case", [Case(2, 8, 7, 8), Case(2, 8, 7, 5, "bf16", "channels_last", "11")], ids=str)
def test_gradient_from_above_in_any_layout(case: Case, layout: str) -> None:
    check(KERNEL, case, layout)


@pytest.mark.parametrize("case", [Case(2, 4, 5, 3), Case(2, 4, 5, 3, logits="1C")], ids=str)
def test_single_gradients(case: Case) -> None:
    check_single_gradients(KERNEL, case)


def test_sums_over_nothing_are_zero() -> None:
    case = Case(2, 0, 3, 3, logits="11")
    tensors = [t.detach() for t in KERNEL.make(case)]
    found = KERNEL.backward([torch.zeros(2, 0, 3, 3)], tensors, case)
    assert [g.numel() for g in found] == [0, 0, 18, 1]
    assert all((g == 0).all() for g in found)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", NAMES.values())
def test_packs_in_one_launch_and_one_more_for_beta(dtype: str, layout: str) -> None:
    assert kernels(KERNEL, Case(2, 8, 3, 8, dtype, layout)) == [PACKS, PACKS, TOTALS]
    assert kernels(KERNEL, Case(2, 8, 3, 8, dtype, layout), needs=0b0111) == [PACKS, PACKS]
    summed = sums("kSumPack", layout == "channels_last")
    assert kernels(KERNEL, Case(2, 8, 3, 8, dtype, layout, "11")) == [PACKS, summed, TOTALS]
