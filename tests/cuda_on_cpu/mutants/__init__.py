"""Mutants: seeded bugs, one edit of the sources each, all of which the tests of the kernels must catch.

The mutants of an op stand in a file of its name beside this one, in a list ``MUTANTS``; if its ``<op>.cu`` needs others to link,
they are named in ``ALSO``. A mutant is built from a copy of csrc and
runs the tests named ``test_small`` of its op: first as they are, which compares values and orders of threads, then under
AddressSanitizer with UndefinedBehaviorSanitizer, then under ThreadSanitizer.

``python -m tests.cuda_on_cpu.mutants [OP ...]`` prints who catches what.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cuda_on_cpu.build import FOLDER, SMALL_DTYPES, SOURCES, build
from tests.cuda_on_cpu.sanitizers import run_small_tests

MODES = ("plain", "asan", "tsan")
HEAD = "| op | mutant | caught by |\n|---|---|---|"


def row(op: str, mutant: Mutant, found: str | None) -> str:
    """Return a line of the table of mutants."""
    return f"| {op} | {mutant} | {found or '**nobody**'} |"


@dataclass(frozen=True)
class Mutant:
    """``old``, which stands in ``file`` (of csrc/cuda, or else of csrc) exactly once, becomes ``new``."""

    what: str
    file: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{Path(self.file).name}: {self.what}"

    def path(self, sources: Path) -> Path:
        inner = sources / "cuda" / self.file
        return inner if inner.exists() else sources / self.file

    def apply(self, source: str) -> str:
        count = source.count(self.old)
        if count != 1:
            raise ValueError(f"{self}: what it replaces stands in {self.file} {count} times, not once")
        return source.replace(self.old, self.new)


def mutants(*ops: str) -> Iterator[tuple[str, Mutant]]:
    """Yield op and mutant, of the ops given or of all that have any."""
    for name in ops or sorted(found.name for found in pkgutil.iter_modules(__path__)):
        if name != "__main__":
            for mutant in importlib.import_module(f"{__name__}.{name}").MUTANTS:
                yield name, mutant


# Always the same, so that little is compiled for the next mutant; one for each process of pytest-xdist.
MUTATED = FOLDER / f"mutated{os.environ.get('PYTEST_XDIST_WORKER', '')}"


def mutate(mutant: Mutant | None) -> Path:
    """Return a copy of csrc with the mutant in it."""
    target = MUTATED / "csrc"
    for file in [*SOURCES.glob("*.*"), *SOURCES.glob("cuda/*.*")]:
        text = file.read_text()
        if mutant and file == mutant.path(SOURCES):
            text = mutant.apply(text)
        copy = target / file.relative_to(SOURCES)
        if not copy.exists() or copy.read_text() != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    for file in target.glob("cuda/*.*"):
        if not (SOURCES / "cuda" / file.name).exists():
            file.unlink()
    return target


def verdict(text: str) -> str:
    """Return what the output of a failed run says."""
    signs = {
        "ThreadSanitizer: data race": "data race",
        "AddressSanitizer: ": "AddressSanitizer",
        "runtime error: ": "UndefinedBehaviorSanitizer",
        "cuda_on_cpu: ": "diagnosis of the emulator",
        "depends on the order of the threads": "orders of threads",
        "Fatal Python error": "crash",
        "no end after": "never ends",
        "AssertionError": "values",
    }
    return next((meaning for sign, meaning in signs.items() if sign in text), "crash")


def caught_by(op: str, mutant: Mutant | None, modes: tuple[str, ...] = MODES) -> str | None:
    """Return the first of ``modes`` that catches the mutant, with what it saw, or None.

    Raises:
        RuntimeError: the mutant does not compile.
        ValueError: what it replaces is not to be found.
    """
    sources = mutate(mutant)
    ops = (op, *getattr(importlib.import_module(f"{__name__}.{op}"), "ALSO", ()))
    env = {
        "RIRN_EMULATE_SOURCES": str(sources),
        "RIRN_EMULATE_FOLDER": str(MUTATED),
        "RIRN_EMULATE_OPS": " ".join(ops),
        "RIRN_EMULATE_DTYPES": " ".join(SMALL_DTYPES),
    }
    for mode in modes:
        build(sources, MUTATED, mode, ops, SMALL_DTYPES)
        passed, text = run_small_tests(mode, f"tests/cuda_on_cpu/test_{op}.py", env=env)
        if not passed:
            return f"{mode}: {verdict(text)}"
    return None
