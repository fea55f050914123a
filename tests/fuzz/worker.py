"""Runs cases one after another in a process that may die of them: ``python -m tests.fuzz.worker FOLDER``.

Reads lines ``KIND SEED NUMBER`` and answers each with a line of JSON, an :class:`Outcome`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import io
import json
import os
import random
import resource
import shutil
import sys
import traceback
from pathlib import Path

MEMORY = 8 << 30
"""Address space of a worker, bytes: what allocates without bound fails here and not on the machine of the tester."""


@dataclasses.dataclass
class Outcome:
    """How a case ended.

    ``ok``: well; ``refused``: with one sentence; what is wrong otherwise: ``traceback``, ``unclear`` (an error message that is
    not one line), ``stray`` (did what :mod:`tests.fuzz.guard` forbids); and from outside the process: ``hang``, ``crash``.
    """

    kind: str
    number: int
    result: str
    detail: str = ""

    @property
    def is_finding(self) -> bool:
        return self.result not in ("ok", "refused")


class Runner:
    """Everything that cases of one process share."""

    def __init__(self, folder: Path):
        from tests.fuzz.guard import Guard

        self.folder = folder
        self.guard = Guard()
        self._kinds: dict[str, object] = {}

    def kind(self, name: str):
        from tests.fuzz.kinds import KINDS

        if name not in self._kinds:
            seeds = self.folder / "seeds" / name
            shutil.rmtree(seeds, ignore_errors=True)  # of a worker before this one that died
            seeds.mkdir(parents=True)
            self._kinds[name] = KINDS[name](seeds)
        return self._kinds[name]

    def run(self, name: str, seed: int, number: int) -> Outcome:
        """Prepare a case and run it under the eyes of the guard."""
        from rirn.errors import RirnError
        from tests.fuzz.guard import snapshot

        kind = self.kind(name)
        folder = self.folder / f"case-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        out = folder / "out"
        out.mkdir(parents=True)
        act = kind.prepare(random.Random(f"{seed} {name} {number}"), folder)
        before = snapshot(folder, out)
        stdout, stderr = io.StringIO(), io.StringIO()
        result, detail = "ok", ""
        with self.guard.watching(out) as strayed:
            try:
                with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
                    status = act()
                if status:
                    result, detail = "refused", _sentence(stderr.getvalue())
            except RirnError as error:
                result, detail = "refused", str(error)
            except SystemExit as stopped:
                result, detail = ("refused", _sentence(stderr.getvalue())) if stopped.code else ("ok", "")
            except BaseException as error:
                text = traceback.format_exception(error)
                result, detail = "traceback", "".join(text)[-1500:]
        if result == "refused" and (len(detail.splitlines()) != 1 or len(detail) > 3000):
            result = "unclear"
        changed = [p for p, _ in before.items() ^ snapshot(folder, out).items()]
        if strayed or changed:
            result, detail = "stray", "; ".join([*strayed, *sorted(set(changed))])[:1500]
        return Outcome(name, number, result, detail)


def _sentence(stderr: str) -> str:
    """The lines of a refusal: those behind the last ``rirn COMMAND:``, so that warnings before it do not count."""
    lines = stderr.strip().splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("rirn")]
    return "\n".join(lines[starts[-1] :]) if starts else stderr.strip()


def main(folder: Path) -> None:
    faulthandler.enable()
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what C libraries print is not an answer
    requests = os.fdopen(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    import torch

    torch.set_num_threads(1)
    runner = Runner(folder)
    for request in requests:
        name, seed, number = request.split()
        outcome = runner.run(name, int(seed), int(number))
        answers.write(json.dumps(dataclasses.asdict(outcome)) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
