"""The machine code of the CUDA kernels stays within budget.toml."""

from __future__ import annotations

import dataclasses
import re

import pytest

from tests.kernels import budget
from tests.kernels.budget import ARCHS, Use, occupancy, violations

needs_tools = pytest.mark.skipif(budget.why_not() is not None, reason=str(budget.why_not()))
USE = Use(registers=40, shared=1024, occupancy=75, wide=50, tensor=4)


@needs_tools
@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("op", budget.ops())
def test_machine_code_is_within_budget(op, arch):
    data = budget.read_budget()
    allowed = budget.budget_of(op, arch, data)
    assert allowed, f"no budget for {op} on sm_{arch}: python -m tests.kernels.budget --update {op}"
    found = budget.measure(budget.compile_op(op, arch), arch, data.get("dynamic_shared"))
    least = data["least_occupancy"] if op in data["memory_bound"] else 0
    bad = violations(allowed, found, least, data["below_least_occupancy"])
    assert not bad, "\n".join(bad)


# Each thread needs 96 values at once, and 2 blocks of 1,024 threads leave it 32 registers.
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float* data) {
  float values[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) values[i] = data[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) data[i * 1024 + 1023 - threadIdx.x] = values[i];
}
"""


@needs_tools
def test_spills_are_seen(tmp_path):
    """The kernels of the ops state their launch bounds, so that nvcc cannot be told to leave them too few registers."""
    source, cubin = tmp_path / "spilling.cu", tmp_path / "spilling.cubin"
    source.write_text(SPILLING)
    budget.compile_source(source, 90, cubin)
    found = budget.measure(cubin, 90)
    (message,) = violations({"spilling": dataclasses.replace(found["spilling"], spills=0)}, found)
    assert re.fullmatch(r"spilling: \d+ accesses to spilled registers", message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"registers": 41}, "k: registers 41, allowed 40"),
        ({"shared": 1025}, "k: shared 1025, allowed 1024"),
        ({"occupancy": 74}, "k: occupancy 74, wanted 75"),
        ({"wide": 49}, "k: wide 49, wanted 50"),
        ({"tensor": 3}, "k: tensor 3, wanted 4"),
        ({"spills": 1}, "k: 1 accesses to spilled registers"),
    ],
)
def test_an_overrun_is_named(change, message):
    assert violations({"k": USE}, {"k": dataclasses.replace(USE, **change)}) == [message]


def test_what_is_better_passes():
    assert not violations({"k": USE}, {"k": Use(registers=20, shared=0, occupancy=100, wide=80, tensor=9)})
    assert violations({"k": USE}, {"k": USE}, least_occupancy=80)


def test_occupancy_is_not_asked_of_float64_and_exceptions():
    assert not violations({"k<double, 2>": USE}, {"k<double, 2>": USE}, least_occupancy=80)
    assert not violations({"k": USE}, {"k": USE}, least_occupancy=80, exceptions=["k"])


@needs_tools
def test_exceptions_are_needed():
    """What is excepted from the least occupancy is below it in the budget of an architecture."""
    data = budget.read_budget()
    low = {
        name
        for op in data["memory_bound"]
        for arch in ARCHS
        for name, use in budget.budget_of(op, arch, data).items()
        if use.occupancy < data["least_occupancy"] and "<double" not in name
    }
    assert low == set(data["below_least_occupancy"])


def test_instructions_are_counted_once():
    words = [
        "HMMA.16816.F32",
        "LDG.E.128.CONSTANT",
        "LDG.E.CONSTANT",
        "LDGSTS.E.BYPASS.128",
        "LDGDEPBAR",
        "EXIT",
    ]
    found = {kind: n for kind, n in budget.counts(words).items() if n}
    assert found == {"HMMA": 1, "LDG.128": 1, "LDG": 1, "LDGSTS": 1, "all": 6}


def test_budget_and_kernels_must_match():
    assert violations({"old": USE}, {"new": USE}) == [
        "new is not in the budget",
        "old is in the budget but does not exist",
    ]


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "threads", "percent"),
    [  # as NVIDIA's occupancy calculator has them
        (80, 32, 0, 256, 100),
        (80, 40, 0, 256, 75),
        (80, 64, 0, 256, 50),
        (80, 65, 0, 256, 37),
        (80, 255, 0, 256, 12),
        (80, 32, 0, 32, 50),  # 32 blocks at most
        (80, 32, 48 << 10, 256, 37),
        (90, 32, 48 << 10, 256, 50),
        (90, 32, 227 << 10, 1024, 50),
        (90, 128, 100 << 10, 128, 12),
    ],
)
def test_occupancy(arch, registers, shared, threads, percent):
    assert occupancy(arch, registers, shared, threads) == percent


@needs_tools
def test_the_budget_survives_being_written(tmp_path):
    data = {
        "memory_bound": ["atb_blend"],
        "least_occupancy": 50,
        "below_least_occupancy": ["k<2>"],
        "dynamic_shared": {"k<2>": 4096},
    }
    path = tmp_path / "budget.toml"
    budget.write_budget({"atb_blend": {80: {"k<2>": USE}}}, data, path)
    again = budget.read_budget(path)
    assert {key: again[key] for key in data} == data
    assert budget.budget_of("atb_blend", 80, again) == {"k<2>": USE}
