"""Mutants: seeded bugs, one edit of the sources each, all of which the tests of the kernels must catch.

The mutants of an op stand in a file of its name beside this one, in a list ``MUTANTS``; if its ``<op>.cu`` needs others to link,
they are named in ``ALSO``. All mutants of an op are woven into one copy of csrc, which is compiled once; each runs the
tests named ``test_small`` of its op in a process of its own, where an environment variable switches it on: first as they are,
which compares values and orders of threads, then, if it survives, under AddressSanitizer with UndefinedBehaviorSanitizer, then
under ThreadSanitizer.

``python -m tests.cuda_on_cpu.mutants [OP ...]`` prints who catches what.
"""

from __future__ import annotations

import importlib
import itertools
import os
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
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
    """``old``, an expression or a statement of ``file`` (in csrc/cuda, or else in csrc), becomes ``new``.

    It is the one in the place of the ``@`` of ``within``, which stands in the file exactly once. ``constant``: the compiler wants
    to know its value, so that it cannot be switched on while the program runs, and is compiled by itself.
    """

    what: str
    file: str
    old: str
    new: str
    within: str = "@"
    constant: bool = False

    def __str__(self) -> str:
        return f"{Path(self.file).name}: {self.what}"

    def path(self, sources: Path) -> Path:
        inner = sources / "cuda" / self.file
        return inner if inner.exists() else sources / self.file

    def span(self, source: str) -> tuple[int, int]:
        """Return where in ``source`` what it replaces begins and ends."""
        before, after = self.within.split("@")
        text = before + self.old + after
        count = source.count(text)
        if count != 1:
            raise ValueError(f"{self}: what it replaces stands in {self.file} {count} times, not once")
        start = source.index(text) + len(before)
        return start, start + len(self.old)

    def apply(self, source: str) -> str:
        start, end = self.span(source)
        return source[:start] + self.new + source[end:]

    def switched(self, bug: int) -> str:
        """Return what replaces ``old`` where seeded bug number ``bug`` may be switched on or not."""
        if self.old.endswith((";", "}")):
            return f"if (cuda_on_cpu::seeded({bug})) {{ {self.new} }} else {{ {self.old} }}"
        return f"(cuda_on_cpu::seeded({bug}) ? ({self.new}) : ({self.old}))"


def weave(source: str, seeded: Sequence[tuple[int, Mutant]]) -> str:
    """Return ``source`` with all bugs of ``seeded`` in it, each behind its number.

    Raises:
        ValueError: one does not fit the source, or two replace the same place.
    """
    edits = sorted((*mutant.span(source), bug, mutant) for bug, mutant in seeded)
    for (_, end, _, first), (start, _, _, second) in itertools.pairwise(edits):
        if start < end:
            raise ValueError(f"{first} and {second} replace the same place: make one of them constant")
    for start, end, bug, mutant in reversed(edits):
        source = source[:start] + mutant.switched(bug) + source[end:]
    return source


def mutants(*ops: str) -> Iterator[tuple[str, Mutant]]:
    """Yield op and mutant, of the ops given or of all that have any."""
    for name in ops or sorted(found.name for found in pkgutil.iter_modules(__path__)):
        if name != "__main__":
            for mutant in importlib.import_module(f"{__name__}.{name}").MUTANTS:
                yield name, mutant


# Always the same, so that little is compiled for the next op; one for each process of pytest-xdist.
MUTATED = FOLDER / f"mutated{os.environ.get('PYTEST_XDIST_WORKER', '')}"


def mutated_sources(op: str, constant: Mutant | None) -> Path:
    """Return a copy of csrc with ``constant`` in it, or with all other mutants of the op woven in."""
    seeded = [] if constant else [(bug, m) for bug, (_, m) in enumerate(mutants(op), 1) if not m.constant]
    target = MUTATED / "csrc"
    for file in [*SOURCES.glob("*.*"), *SOURCES.glob("cuda/*.*")]:
        text = file.read_text()
        if constant and file == constant.path(SOURCES):
            text = constant.apply(text)
        text = weave(text, [(bug, mutant) for bug, mutant in seeded if mutant.path(SOURCES) == file])
        copy = target / file.relative_to(SOURCES)
        if not copy.exists() or copy.read_text() != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    for file in target.glob("cuda/*.*"):
        if not (SOURCES / "cuda" / file.name).exists():
            file.unlink()
    return target


@cache
def _module(op: str, mode: str, constant: Mutant | None) -> Path:
    ops = (op, *getattr(importlib.import_module(f"{__name__}.{op}"), "ALSO", ()))
    built = build(mutated_sources(op, constant), MUTATED, mode, ops, SMALL_DTYPES)
    number = [mutant for _, mutant in mutants(op)].index(constant) + 1 if constant else "all"
    return built.replace(built.with_stem(f"{op}-{number}"))


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
    """Return the first of ``modes`` that catches the mutant (None: of the unchanged sources), with what it saw, or None.

    Raises:
        RuntimeError: the mutant does not compile.
        ValueError: what it replaces is not to be found.
    """
    bug = [found for _, found in mutants(op)].index(mutant) + 1 if mutant else 0
    for mode in modes:
        module = _module(op, mode, mutant if mutant and mutant.constant else None)
        env = {"RIRN_EMULATE_MODULE": str(module), "RIRN_SEEDED_BUG": str(bug)}
        passed, text = run_small_tests(mode, f"tests/cuda_on_cpu/test_{op}.py", env=env)
        if not passed:
            return f"{mode}: {verdict(text)}"
    return None
