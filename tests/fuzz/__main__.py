"""Run many cases of damaged input, in processes that are killed when they hang, and count how they end.

``python -m tests.fuzz --cases 10000 --seed 0`` in the root of the repository; ``--only KIND --first NUMBER --cases 1`` runs
one case again. Exit status 1 where something was found.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.worker import Outcome

ROOT = Path(__file__).resolve().parents[2]

SHARES = {
    "containers": 33,
    "weights": 30,
    "configs": 7,
    "datasets": 10,
    "checkpoints": 4,
    "resumes": 8,
    "photos": 8,
}
"""How many of a hundred cases are of a kind; those that take longer are fewer."""

FIRST = 10
"""How much more time the first case of a process has, for imports."""


class Process:
    """A worker, started when it is first needed and again when it has died."""

    def __init__(self, folder: Path, limit: float):
        self._folder, self._limit = folder, limit
        self._process: subprocess.Popen | None = None

    def run(self, kind: str, seed: int, number: int) -> Outcome:
        """One case. Where it hangs or crashes, it is run again in a new process: this one, or one before it in the same
        process, may have been to blame, or a machine that was busy."""
        outcome = self._attempt(kind, seed, number)
        if outcome.result in ("hang", "crash"):
            again = self._attempt(kind, seed, number)
            if again.result != outcome.result:
                again.detail = f"{again.detail} (after a {outcome.result} that did not repeat)".strip()
                return again if outcome.result == "hang" else outcome
        return outcome

    def _attempt(self, kind: str, seed: int, number: int) -> Outcome:
        limit = self._limit
        if self._process is None:
            self._start()
            limit *= FIRST
        answer = self._ask(kind, seed, number, limit)
        return answer if isinstance(answer, Outcome) else self._died(kind, number, silent=answer is None)

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        log = (self._folder / "stderr.log").open("ab")
        command = [sys.executable, "-m", "tests.fuzz.worker", str(self._folder)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )

    def _ask(self, kind: str, seed: int, number: int, limit: float) -> Outcome | str | None:
        """The outcome, what there is of a line where the process ended before it had one, None where it says nothing."""
        assert self._process is not None and self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(f"{kind} {seed} {number}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return ""
        if not self._answers(limit):
            return None
        line = self._process.stdout.readline().decode()
        return Outcome(**json.loads(line)) if line.endswith("\n") else line

    def _answers(self, limit: float) -> bool:
        """Whether an answer comes before the process has computed for ``limit`` seconds, or waited for ten times as long: a busy
        machine is no hang."""
        assert self._process is not None
        began, computed = time.monotonic(), _cpu_seconds(self._process.pid)
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            waited = time.monotonic() - began
            if waited > 10 * limit or _cpu_seconds(self._process.pid) - computed > limit:
                return False
        return True

    def _died(self, kind: str, number: int, *, silent: bool) -> Outcome:
        process, self._process = self._process, None
        assert process is not None
        if silent:
            process.kill()
            process.wait()
            return Outcome(kind, number, "hang", f"no answer after {self._limit:g} s of computing")
        status = process.wait()
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        tail = (self._folder / "stderr.log").read_text(errors="replace")[-1500:]
        return Outcome(kind, number, "crash", f"{name}: {tail}")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _cpu_seconds(pid: int) -> float:
    """Time that a process has computed; where the system does not say, time of day."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def plan(cases: int, only: Sequence[str], first: int) -> list[tuple[str, int]]:
    """The kind and the number of each case, the kinds in turn by their shares."""
    shares = {kind: share for kind, share in SHARES.items() if not only or kind in only}
    total = sum(shares.values())
    return [
        (kind, number)
        for kind, share in shares.items()
        for number in range(first, first + max(1, round(cases * share / total)))
    ]


def outcomes(jobs: Sequence[tuple[str, int]], seed: int, workers: int, limit: float) -> Iterator[Outcome]:
    """Outcomes of all cases, in the order of the jobs."""
    free: queue.SimpleQueue[Process] = queue.SimpleQueue()

    def run(job: tuple[str, int]) -> Outcome:
        process = free.get()
        try:
            return process.run(job[0], seed, job[1])
        finally:
            free.put(process)

    with tempfile.TemporaryDirectory(prefix="rirn-fuzz-") as folder:
        processes = [Process(Path(folder) / f"worker{i}", limit) for i in range(workers)]
        for process in processes:
            free.put(process)
        try:
            with ThreadPoolExecutor(workers) as pool:
                yield from pool.map(run, jobs)
        finally:
            for process in processes:
                process.close()


def table(found: Sequence[Outcome]) -> str:
    """Counts by kind, as Markdown."""
    lines = ["| kind | cases | well | one sentence | findings |", "|---|---|---|---|---|"]
    kinds = [kind for kind in SHARES if any(o.kind == kind for o in found)]
    for kind in (*kinds, "all"):
        mine = [o for o in found if kind in (o.kind, "all")]
        counts = collections.Counter(o.result for o in mine)
        wrong = ", ".join(f"{n} {r}" for r, n in sorted(counts.items()) if r not in ("ok", "refused"))
        lines.append(f"| {kind} | {len(mine)} | {counts['ok']} | {counts['refused']} | {wrong or 'none'} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10000, help="in all, shared out among the kinds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", choices=list(SHARES), default=[], metavar="KIND")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--limit", type=float, default=20.0, help="seconds of computing after which a case hangs"
    )
    parser.add_argument("--json", type=Path, help="write every outcome to this file, a line each")
    options = parser.parse_args(argv)
    jobs = plan(options.cases, options.only, options.first)
    began = time.monotonic()
    found = []
    log = options.json.open("w", encoding="utf-8") if options.json else None
    for outcome in outcomes(jobs, options.seed, options.workers, options.limit):
        found.append(outcome)
        if log:
            log.write(json.dumps(vars(outcome)) + "\n")
            log.flush()
        if outcome.is_finding:
            text = f"{outcome.kind} {outcome.number}: {outcome.result}: {outcome.detail[-1500:]}"
            print(text.encode("ascii", "backslashreplace").decode(), flush=True)
    print(table(found))
    print(f"seed {options.seed}, {len(found)} cases in {time.monotonic() - began:.0f} s")
    return int(any(outcome.is_finding for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
