"""The CUDA kernels of conv_epilogue, run on the CPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.cuda_on_cpu.harness import in_every_order, launches, odd_counts
from tests.cuda_on_cpu.pointwise_cases import ONE_BY_ONE, PACKS, TAILS
from tests.ops.cases import Case, image, randn
from tests.tolerances import DTYPES, NAMES, TABLE, assert_close

pytestmark = pytest.mark.usefixtures("emulator")

OP = "conv_epilogue"


def tensors(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """An image, a bias and a skip."""
    generator = torch.Generator().manual_seed(0)
    x, skip = (image(case.c, case, generator, "cpu").detach() for _ in range(2))
    return x, randn(case.c, case=case, generator=generator, device="cpu").detach(), skip


def epilogue(*args: object) -> Tensor:
    result: Tensor = torch.ops.rirn_on_cpu.conv_epilogue(*args)
    return result


def check(case: Case) -> None:
    x, bias, skip = tensors(case)
    for slope in (0.0, 0.1, 1.0):
        for added in (None, skip):
            [out] = in_every_order(lambda added=added, slope=slope: [epilogue(x, bias, added, slope)])
            assert out.dtype == x.dtype and out.stride() == torch.empty_like(x).stride()
            total = x.double() + bias.double()[:, None, None] + (0 if added is None else added.double())
            assert_close(out, F.leaky_relu(total, slope), TABLE[OP, "output", case.dtype], "output")


SMALL = [
    Case(1, 2, 5, 7),
    Case(2, 8, 2, 8, "fp16", "channels_last"),
    Case(1, 8, 1, 2, "bf16"),
    Case(2, 3, 5, 3, "fp32", "strided"),
    Case(3, 2, 3, 5, "fp32", "sliced"),  # not aligned to 16 bytes
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_small(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", [*odd_counts(), *TAILS], ids=str)
def test_against_its_equation(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("slope", [0.0, 0.1, 1.0])
def test_what_is_not_finite(slope: float) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0]).view(1, 1, 2, 2)
    found = epilogue(x, torch.zeros(1), None, slope)
    torch.testing.assert_close(found, F.leaky_relu(x, slope) if slope else torch.relu(x), equal_nan=True)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", NAMES.values())
def test_one_launch_in_packs(dtype: str, layout: str) -> None:
    x, bias, skip = tensors(Case(2, 8, 3, 8, dtype, layout))
    assert launches(lambda: epilogue(x, bias, skip, 0.0)) == [PACKS]
    assert launches(lambda: epilogue(x, bias, None, 0.0)) == [PACKS]


def test_a_bias_that_does_not_lie_in_packs_is_taken_one_by_one() -> None:
    x, _, skip = tensors(Case(2, 8, 3, 8, "fp16", "channels_last"))
    bias = torch.arange(9, dtype=DTYPES["fp16"])[1:]
    assert launches(lambda: epilogue(x, bias, skip, 0.0)) == [ONE_BY_ONE]
    want = (x.double() + bias.double()[:, None, None] + skip.double()).relu()
    assert_close(epilogue(x, bias, skip, 0.0), want, TABLE[OP, "output", "fp16"], "output")


def test_it_checks_for_itself() -> None:
    x, bias, skip = tensors(Case(1, 2, 3, 3, "fp16"))
    with pytest.raises(RuntimeError, match=r"bias must be \w+ \[2\]"):
        epilogue(x, bias[:1], skip, 0.0)
    with pytest.raises(RuntimeError, match=r"skip must be \w+ \[1, 2, 3, 3\]"):
        epilogue(x, bias, skip[..., :2], 0.0)
    with pytest.raises(RuntimeError, match=r"bias must be Half"):
        epilogue(x, bias.float(), skip, 0.0)
