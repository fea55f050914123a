"""The CUDA kernels of the gates, run on the CPU."""

from __future__ import annotations

import pytest

from tests.cuda_on_cpu.harness import Kernel, check, check_single_gradients
from tests.cuda_on_cpu.pointwise_cases import ONE_BY_ONE, PACKS, TAILS, kernels
from tests.ops.cases import Case
from tests.ops.test_gates import CASES, GATES
from tests.tolerances import NAMES

pytestmark = pytest.mark.usefixtures("emulator")

KERNELS = [Kernel(op.name, op.reference, op.make, op.inputs, op.state) for op in GATES]
each = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


SMALL = [
    Case(1, 1, 5, 7),  # packs and three elements more
    Case(2, 8, 2, 8, "fp16"),
    Case(1, 8, 3, 5, "fp16", "channels_last"),
    Case(1, 8, 1, 2, "bf16"),
    Case(2, 3, 5, 3, "fp32", "strided"),
    Case(3, 1, 3, 5, "fp32", "sliced"),  # not aligned to 16 bytes
]


@each
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(kernel: Kernel, case: Case) -> None:
    check(kernel, case)
    check_single_gradients(kernel, case)


@each
@pytest.mark.parametrize("case", [*CASES, *TAILS], ids=str)
def test_against_reference(kernel: Kernel, case: Case) -> None:
    check(kernel, case)


@each
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
@pytest.mark.parametrize("case", [Case(2, 8, 7, 8), Case(2, 8, 7, 5, "bf16", "channels_last")], ids=str)
def test_gradient_from_above_in_any_layout(kernel: Kernel, case: Case, layout: str) -> None:
    check(kernel, case, layout)


@each
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "strided"])
def test_single_gradients(kernel: Kernel, layout: str) -> None:
    check_single_gradients(kernel, Case(2, 8, 5, 3, layout=layout))


@each
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", NAMES.values())
def test_one_launch_in_packs(kernel: Kernel, dtype: str, layout: str) -> None:
    """Also where the gates of an LSTM are parts of one tensor."""
    assert kernels(kernel, Case(2, 8, 3, 8, dtype, layout)) == [PACKS, PACKS]


@each
def test_what_does_not_lie_in_packs_is_taken_one_by_one(kernel: Kernel) -> None:
    assert kernels(kernel, Case(2, 3, 5, 7, "fp16", "strided")) == [ONE_BY_ONE, ONE_BY_ONE]
