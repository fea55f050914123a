"""The CUDA kernels of dtb_blend, run on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cuda_on_cpu.harness import Kernel, check, check_single_gradients, in_every_order
from tests.cuda_on_cpu.pointwise_cases import PACKS, SUMS, TAILS, TOTALS, kernels, sums
from tests.ops.cases import Case
from tests.ops.contract import random_grads
from tests.ops.test_dtb_blend import CASES, DTB
from tests.tolerances import NAMES, TABLE, assert_close

pytestmark = pytest.mark.usefixtures("emulator")

KERNEL = Kernel(DTB.name, DTB.reference, DTB.make, DTB.inputs, DTB.state)


SMALL = [
    Case(1, 1, 5, 7),  # packs and three elements more
    Case(1, 2, 9, 16),  # several warps
    Case(1, 8, 2, 8, "fp16", "contiguous", "11"),
    Case(1, 12, 2, 5, "fp16", "channels_last", "11"),
    Case(1, 8, 1, 8, "bf16", "contiguous", "11"),
    Case(2, 3, 5, 3, "fp32", "strided", "11"),
    Case(3, 1, 3, 5, "fp32", "sliced"),  # not aligned to 16 bytes
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case) -> None:
    check(KERNEL, case)
    check_single_gradients(KERNEL, case)


def cut(x: Tensor) -> Tensor:
    """Return ``x`` as the left part of rows of 8 elements, the rest NaN."""
    n, c, h, w = x.shape
    view = x.new_full((n, c, h, 8), torch.nan)[..., :w]
    return view.copy_(x)


def test_small_sums_of_rows_that_end_inside_a_pack() -> None:
    """Rows begin at multiples of a pack; where only sums over the channels are wanted, nothing of their length is written."""
    case, logit = Case(1, 3, 2, 5, logits="11"), KERNEL.inputs.index("logit")
    *features, beta = [t.detach() for t in KERNEL.make(case)]
    tensors = [*map(cut, features), beta]
    grads = [cut(g) for g in random_grads(KERNEL.forward(tensors, case))]
    found = in_every_order(lambda: KERNEL.backward(grads, tensors, case, 1 << logit))
    _, want = KERNEL.truth(grads, tensors, case)
    assert_close(found[logit], want[logit], TABLE["dtb_blend", "gradient", "fp32"], "gradient of logit")


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
    assert kernels(KERNEL, Case(2, 8, 3, 8, dtype, layout), output_mask=0b0111) == [PACKS, PACKS]
    summed = sums("kSumPack", layout == "channels_last")
    assert kernels(KERNEL, Case(2, 8, 3, 8, dtype, layout, "11")) == [PACKS, summed, TOTALS]
