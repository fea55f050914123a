"""The emulator itself: right kernels come out right, wrong ones are named or give another result in another order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.cuda_on_cpu.build import MODE
from tests.cuda_on_cpu.harness import ORDERS, in_every_order

pytestmark = pytest.mark.usefixtures("emulator")
plain_only = pytest.mark.skipif(
    MODE != "plain", reason="the sanitizer would stop at what this kernel does wrong"
)
# As in kernels/self_test.cu.
SUM, MISSING_BARRIER, WRITE_AFTER_READ, TWO_BLOCKS, STATIC, DYNAMIC = range(6)
WRITE_AFTER_OTHERS_READ = 18
MULTIPLY = {"by element": 20, "with ldmatrix": 21}


def run(which: int, a: Tensor | None = None, b: Tensor | None = None, size: int = 64) -> Tensor:
    a = torch.arange(1.0, 65.0) if a is None else a
    return torch.ops.cuda_on_cpu_self_test.run(which, a, a if b is None else b, torch.zeros(size))


@pytest.mark.parametrize("n", [0, 1, 31, 128, 1000])
def test_sum_over_a_block(n):
    [total] = in_every_order(lambda: [run(SUM, torch.arange(float(n)), size=1)])
    assert total == n * (n - 1) / 2


def test_votes():
    x = torch.full((32,), -1.0)
    x[3] = x[17] = 1.0
    assert run(12, x, size=4).tolist() == [float(2**3 + 2**17), 1.0, 0.0, 2.0]


@plain_only
@pytest.mark.parametrize("which", [MISSING_BARRIER, WRITE_AFTER_READ, WRITE_AFTER_OTHERS_READ, TWO_BLOCKS])
def test_races_depend_on_the_order(which, emulator):
    results = []
    for order in ORDERS:
        emulator.set_order(order)
        results.append(run(which).nan_to_num(-1.0))
    assert not all(torch.equal(results[0], other) for other in results[1:]) or (results[0] == -1.0).any()


@pytest.mark.parametrize("which", [STATIC, DYNAMIC])
def test_shared_memory_that_nobody_wrote_is_nan(which):
    found = run(which)
    assert found[5].isnan()
    assert found.isnan().sum() == 1


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (6, r"divergent_barriers: threads of a block met at different barriers, at self_test.cu:\d+"),
        (7, "deadlock"),
        (8, "reads a lane outside its mask"),
        (9, "whose mask leaves it out"),
        (10, "names a lane that has returned"),
        (13, "bad launch: blocks of 2048 threads"),
        (14, "50000 bytes of dynamic shared memory, where cudaFuncSetAttribute allows 49152"),
    ],
)
def test_what_is_undefined_is_named(which, message):
    with pytest.raises(RuntimeError, match=message):
        run(which)
    assert run(SUM, torch.ones(8), size=1) == 8  # and the next launch is none the worse for it


@pytest.mark.parametrize(("which", "copied"), [(15, 8), (16, 4)])
def test_copies_arrive_when_they_are_waited_for(which, copied):
    found = run(which)[:8]
    assert found[:copied].tolist() == list(range(1, copied + 1))
    assert found[copied:].isnan().all()


def test_copies_that_are_not_valid_are_zeros():
    assert (run(17)[:8] == 0).all()


@pytest.mark.parametrize("how", MULTIPLY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_tensor_cores_multiply(dtype, how):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-15, 16, shape, generator=generator).to(dtype) for shape in ((16, 16), (16, 8)))
    found = run(MULTIPLY[how], a, b, size=128).view(16, 8)
    assert torch.equal(found, a.float() @ b.float())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", MULTIPLY)
def test_every_fragment_has_its_place(dtype, how):
    """One non-zero element at a time: it must meet its own row of the other operand and no other."""
    other = torch.arange(1.0, 129.0).view(16, 8).to(dtype)
    for row in range(16):
        for k in range(16):
            a = torch.zeros(16, 16, dtype=dtype)
            a[row, k] = 1.0
            found = run(MULTIPLY[how], a, other, size=128).view(16, 8)
            assert torch.equal(found[row], other[k].float())
            assert found.count_nonzero() == 8


def test_sums_are_not_rounded_to_half():
    a, b = torch.full((16, 16), 0.1).half(), torch.full((16, 8), 100.0).half()
    found = run(20, a, b, size=128)
    assert torch.allclose(found, torch.full_like(found, 16 * 100 * float(a[0, 0])), rtol=1e-7)


def test_orders_are_checked(emulator):
    with pytest.raises(ValueError, match="fwd, rev or rand:SEED; got sideways"):
        emulator.set_order("sideways")
