"""The dynamic shared memory that tests/kernels/budget.toml counts with is what the launchers ask for."""

from __future__ import annotations

import pytest
import torch

from tests.cuda_on_cpu import test_atb_update as atb
from tests.cuda_on_cpu.test_irm_update import update
from tests.kernels import budget
from tests.ops.cases import Case, irm_inputs
from tests.tolerances import DTYPES

pytestmark = [
    pytest.mark.usefixtures("emulator"),
    pytest.mark.skipif(budget.why_not() is not None, reason=str(budget.why_not())),
]
TYPES = {"fp16": "__half", "bf16": "__nv_bfloat16", "fp32": "float", "fp64": "double"}
# Enough channels for the largest regions, and blocks of every number of outputs.
WIDTHS = {"fp16": {16: 2, 24: 3, 32: 4, 40: 5, 64: 8}, "fp32": {40: None}, "fp64": {40: None}}


def shared_of(emulator, call) -> dict[str, int]:
    """Return the most bytes that each kernel asks for in ``call``, by its name without template arguments."""
    emulator.take_launches()
    call()
    found = {}
    for launch in emulator.take_launches():
        name = launch.kernel.partition("<")[0]
        found[name] = max(found.get(name, 0), launch.shared)
    return found


def budgeted(name: str, *parameters: object) -> int:
    arguments = ", ".join(
        str(p).lower() if isinstance(p, bool) else str(p) for p in parameters if p is not None
    )
    return budget.read_budget()["dynamic_shared"][f"{name}<{arguments}>"]


@pytest.mark.parametrize(("c", "groups"), [(16, 4), (20, 5), (32, 8)])
def test_of_irm_update(emulator, c, groups):
    inputs = irm_inputs(Case(1, c, 1, 1, "fp16"))
    found = shared_of(emulator, lambda: update(inputs))
    for dtype in ("fp16", "bf16"):
        for front in (True, False):
            assert budgeted("irm_three_layers", TYPES[dtype], groups, front) == found["irm_three_layers"]


@pytest.mark.parametrize(
    ("c", "groups", "of_gates"), [(16, 2, None), (24, 3, None), (32, 4, 2), (72, 5, 3), (64, 8, 3)]
)
def test_of_atb_update(emulator, c, groups, of_gates):
    """The channels of which a kernel with so many groups of outputs takes most."""
    found = shared_of(emulator, lambda: atb.update(Case(1, c, 1, 1, "fp16")))
    for dtype in ("fp16", "bf16"):
        assert budgeted("conv3x3_mma_pair", TYPES[dtype], groups) == found["conv3x3_mma_pair"]
        if of_gates:
            assert budgeted("atb_gates", TYPES[dtype], of_gates) == found["atb_gates"]


@pytest.mark.parametrize("dtype", WIDTHS)
def test_of_convolutions(emulator, dtype):
    ops, torch_dtype = torch.ops.rirn_on_cpu, DTYPES[dtype]
    for outputs, groups in WIDTHS[dtype].items():
        chain = (
            [torch.zeros(1, 64, 1, 1, dtype=torch_dtype)],
            [torch.zeros(outputs, 64, 3, 3, dtype=torch_dtype)],
            [torch.zeros(outputs, dtype=torch_dtype)],
            *([1.0], [0], False, False),
        )
        kernel = "conv3x3_mma" if groups else "conv3x3_ffma"
        found = shared_of(emulator, lambda chain=chain: ops.conv3x3_chain(*chain))
        assert budgeted(kernel, TYPES[dtype], groups) == found[kernel]
    grad = torch.zeros(1, outputs, 1, 1, dtype=torch_dtype)
    found = shared_of(emulator, lambda: ops.conv3x3_chain_backward(grad, *chain, 0b10))
    kernel = "conv3x3_weight_gradient" + ("_mma" if groups else "")
    assert budgeted(kernel, TYPES[dtype]) == found[kernel]
