"""The formulas of rirn.bench.kernel_costs against the bytes that the Triton kernels touch in the counting interpreter.

test_counted.py runs this file in a process of its own, since Triton reads at import whether to interpret.
"""

import pytest
import torch

from rirn.bench.kernel_costs import TRITON
from rirn.ops.backends import OPS, choose
from tests.kernels import lab
from tests.ops.calls import arguments
from tests.ops.cases import Case

CASES = [Case(1, 4, 4, 8), Case(1, 4, 4, 8, logits="11")]
"""Tensors of whole sectors, so that formulas are met to the byte but for what is smaller than a sector."""


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("op", "case"),
    [*((op, CASES[0]) for op in OPS), ("atb_blend", CASES[1]), ("dtb_blend", CASES[1])],
    ids=str,
)
def test_bytes_and_launches(op, case, backward):
    choose(op, torch.device("cpu"), "triton")  # defines the torch ops
    name = f"{op}_backward" if backward else op
    args = arguments(op, case, backward=backward)
    expected = TRITON[name](*args)
    with lab.watch() as launches:
        getattr(torch.ops.rirn, f"triton_{name}")(*args)
    assert len(launches) == len(expected)
    for counted, formulas in zip(lab.moved(launches), ("reads", "writes"), strict=True):
        accesses = [a for launch in expected for a in getattr(launch, formulas)]
        moved = sum(a.bytes for a in accesses)
        # Whatever ends inside a sector touches all of it.
        assert moved <= counted <= moved + lab.SECTOR * len(accesses)
