"""Seeded bugs must be caught: the tests of the kernels, tested."""

from __future__ import annotations

import pytest

from tests.cuda_on_cpu.build import ROOT, why_not
from tests.cuda_on_cpu.mutants import Mutant, caught_by, mutants, row, verdict, weave

FOUND = list(mutants())
needs_compiler = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.mark.parametrize(("op", "mutant"), FOUND, ids=[str(mutant) for _, mutant in FOUND])
def test_a_mutant_still_fits_its_source(op, mutant):
    source = mutant.path(ROOT / "csrc").read_text()
    assert mutant.apply(source) != source


def test_a_mutant_must_fit():
    with pytest.raises(ValueError, match=r"stands in k\.cuh 2 times, not once"):
        Mutant("x", "k.cuh", "a", "b").apply("a a")


def test_mutants_are_woven_behind_their_numbers():
    source = "if (i < n) f(i);\n__syncthreads();\n"
    bugs = [
        (1, Mutant("x", "k.cuh", "i < n", "true", "if (@)")),
        (2, Mutant("y", "k.cuh", "__syncthreads();", "")),
    ]
    assert weave(source, bugs) == (
        "if ((cuda_on_cpu::seeded(1) ? (true) : (i < n))) f(i);\n"
        "if (cuda_on_cpu::seeded(2)) {  } else { __syncthreads(); }\n"
    )
    with pytest.raises(ValueError, match="replace the same place"):
        weave(source, [*bugs, (3, Mutant("z", "k.cuh", "n", "m", "< @)"))])


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("E AssertionError: output: max error inf is over 5e-07", "values"),
        ("E AssertionError: the result depends on the order of the threads (rev)", "orders of threads"),
        ("RuntimeError: cuda_on_cpu: k: deadlock", "diagnosis of the emulator"),
        ("WARNING: ThreadSanitizer: data race (pid=1)", "data race"),
        ("==1==ERROR: AddressSanitizer: heap-buffer-overflow", "AddressSanitizer"),
        ("k.cuh:3:1: runtime error: load of misaligned address", "UndefinedBehaviorSanitizer"),
        ("Fatal Python error: Segmentation fault", "crash"),
    ],
)
def test_verdicts(text, seen):
    assert verdict(text) == seen


@pytest.mark.slow
@needs_compiler
def test_the_unchanged_sources_pass():
    for op in sorted({op for op, _ in FOUND}):
        assert caught_by(op, None) is None, op


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("op", "mutant"), FOUND, ids=[str(mutant) for _, mutant in FOUND])
def test_caught(op, mutant, record_property):
    found = caught_by(op, mutant)
    record_property("mutant", row(op, mutant, found))
    assert found
