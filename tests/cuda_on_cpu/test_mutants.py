"""Seeded bugs must be caught: the tests of the kernels, tested."""

from __future__ import annotations

import pytest

from tests.cuda_on_cpu.build import ROOT
from tests.cuda_on_cpu.mutants import Mutant, caught_by, mutants, verdict

FOUND = list(mutants())


@pytest.mark.parametrize(("op", "mutant"), FOUND, ids=[str(mutant) for _, mutant in FOUND])
def test_a_mutant_still_fits_its_source(op, mutant):
    source = (ROOT / "csrc" / "cuda" / mutant.file).read_text()
    assert mutant.apply(source) != source


def test_a_mutant_must_fit():
    with pytest.raises(ValueError, match="stands in k.cuh 2 times, not once"):
        Mutant("x", "k.cuh", "a", "b").apply("a a")


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
@pytest.mark.usefixtures("emulator")
def test_the_unchanged_sources_pass():
    assert caught_by(FOUND[0][0], None) is None


@pytest.mark.slow
@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(("op", "mutant"), FOUND, ids=[str(mutant) for _, mutant in FOUND])
def test_caught(op, mutant, capsys):
    found = caught_by(op, mutant)
    with capsys.disabled():
        print(f"\n{mutant}: caught by {found}")
    assert found
