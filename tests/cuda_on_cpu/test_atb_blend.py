"""The CUDA kernels of atb_blend, run on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cuda_on_cpu.harness import Kernel, check, check_single_gradients, launches, odd_counts
from tests.cuda_on_cpu.pointwise_cases import ONE_BY_ONE, PACKS, SUMS, TAILS, kernels, sums
from tests.ops.calls import reference
from tests.ops.cases import Case, atb_inputs
from tests.ops.test_atb_blend import CASES, terms
from tests.tolerances import NAMES

pytestmark = pytest.mark.usefixtures("emulator")

ATB = Kernel(
    "atb_blend",
    reference.atb_blend,
    atb_inputs,
    ("f_prev", "f_cur", "logit_prev", "logit_cur"),
    like=1,
    arguments=lambda tensors, case: (*tensors, case.max_weight),
    terms=terms,
)
MORE = [
    *odd_counts(),
    *odd_counts(logits="11", max_weight=2.0),
    *(Case(1, 8, 40, 61, dtype) for dtype in ("fp32", "bf16")),
    *(Case(3, 5, 3, 7, dtype, "sliced") for dtype in ("fp32", "fp16")),  # not aligned to 16 bytes
]

SMALL = [
    Case(1, 3, 5, 3, "fp32", max_weight=2.0),
    Case(1, 3, 5, 3, "fp16", "strided", "1C"),
    Case(1, 8, 2, 8, "fp32", "contiguous", "C1"),
    Case(1, 36, 2, 5, "fp16", "channels_last", "11"),
    Case(1, 8, 1, 2, "bf16", "channels_last", "11"),
    Case(1, 2, 13, 11, "fp32", "transposed", "C1"),  # two blocks
    Case(3, 1, 3, 5, "fp32", "sliced"),  # not aligned to 16 bytes
    Case(1, 40, 2, 16, "fp32", "contiguous", "11"),  # sums in packs, two blocks
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case) -> None:
    check(ATB, case)
    check_single_gradients(ATB, case)


@pytest.mark.parametrize("case", [*CASES, *MORE, *TAILS, *SUMS], ids=str)
def test_against_reference(case: Case) -> None:
    check(ATB, case)


@pytest.mark.parametrize("layout", ["expanded", "transposed"])
@pytest.mark.parametrize("case", [Case(2, 8, 7, 5), Case(2, 8, 7, 5, "bf16", "channels_last", "11")], ids=str)
def test_gradient_from_above_in_any_layout(case: Case, layout: str) -> None:
    check(ATB, case, layout)


def test_sums_over_nothing_are_zero() -> None:
    case = Case(2, 0, 3, 3, logits="11")
    tensors = [t.detach() for t in ATB.make(case)]
    found = ATB.backward([torch.zeros(2, 0, 3, 3)], tensors, case)
    assert [g.numel() for g in found] == [0, 0, 18, 18]
    assert all((g == 0).all() for g in found)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", NAMES.values())
def test_packs_in_one_launch(dtype: str, layout: str) -> None:
    assert kernels(ATB, Case(2, 8, 3, 8, dtype, layout)) == [PACKS, PACKS]
    for logits in ("11", "1C", "C1"):
        summed = sums("kSumPack", layout == "channels_last")
        assert kernels(ATB, Case(2, 8, 3, 8, dtype, layout, logits)) == [PACKS, summed]


def test_tensors_are_read_in_packs_where_they_are_aligned() -> None:
    def forward_kernel(tensors: list[Tensor]) -> str:
        [name] = launches(lambda: ATB.forward(tensors, Case(0, 0, 0, 0)))
        return name

    tensors = [t.detach() for t in atb_inputs(Case(2, 8, 7, 5))]
    assert forward_kernel(tensors) == PACKS
    shifted = torch.empty(2 * 8 * 7 * 5 + 1)[1:].view(2, 8, 7, 5).copy_(tensors[0])
    assert forward_kernel([shifted, *tensors[1:]]) == ONE_BY_ONE
    other = tensors[0].contiguous(memory_format=torch.channels_last)
    assert forward_kernel([other, *tensors[1:]]) == ONE_BY_ONE
