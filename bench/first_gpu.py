"""Everything to check on a GPU that these kernels have not run on: ``python -m rirn.bench.first_gpu``.

Three parts of at most ten minutes each: (1) build, tests, sanitizers; (2) ceilings, a table of the ops, profiles of some
kernels; (3) whole steps, a training step, the guesses of ``auto``. Every step has a time limit, runs in its own process and
saves its results to a folder at once, so that an interrupted part resumes where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rirn.bench import tune
from rirn.bench.cases import Sizes
from rirn.bench.gpu_steps import KERNELS, Row, read_rows
from rirn.errors import RirnError, describe
from rirn.files import replacing
from rirn.ops.backends import why_no_gpu

SOURCES = ("tests", "csrc", "kernels", "docs", "pyproject.toml")  # that the tests read
PYTEST = ("{python}", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu and not slow")
SMALL = ("tests/gpu/test_ops.py", "-k", "equals_the_cpu_kernel and cuda")
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--report-api-errors", "no", "--tool")
NCU = (
    "ncu",
    "--clock-control",
    "none",
    "--csv",
    "--launch-skip",
    "1",
    "--launch-count",
    "1",
    "--kernel-name",
)
LARGE = "the_end_of_large_tensors"  # takes tens of GiB: runs separately
LONGEST = 300  # characters of a summary
LEAST_SECONDS = 20.0  # no step is started with less


@dataclass(frozen=True)
class Step:
    """A command with a time limit, and what it needs."""

    part: int
    name: str
    seconds: int
    argv: tuple[str, ...]
    needs: tuple[str, ...] = ("gpu",)
    env: tuple[tuple[str, str], ...] = ()


def measured(part: int, name: str, seconds: int, needs: tuple[str, ...] = ("gpu",)) -> Step:
    """A step of :mod:`rirn.bench.gpu_steps`."""
    return Step(part, name, seconds, ("{python}", "-m", "rirn.bench.gpu_steps", name, "{rows}"), needs)


def sanitized(tool: str) -> Step:
    """The small cases under a tool that checks every access of a kernel; so memory comes directly from the driver."""
    argv = (*SANITIZER, tool, *PYTEST, *SMALL)
    needs = ("gpu", "compute-sanitizer", "checkout")
    return Step(1, tool, 150, argv, needs, (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),))


STEPS = (
    Step(
        1,
        "build",
        300,
        ("{python}", "setup.py", "--quiet", "build", "--build-lib", "{tree}", "--build-temp", "{objects}"),
        ("gpu", "nvcc", "checkout"),
        (("RIRN_BUILD_CUDA", "1"),),
    ),
    measured(1, "facts", 300, ()),
    Step(
        1,
        "tests",
        240,
        (*PYTEST, "{parallel}", "tests/ops", "tests/nn", "tests/models", "tests/gpu", "-k", f"not {LARGE}"),
        ("gpu", "checkout"),
    ),
    Step(
        1,
        "graphs",
        120,
        (*PYTEST, "tests/gpu/test_graphs.py", "tests/gpu/test_captured_ops.py"),
        ("gpu", "checkout"),
    ),
    Step(1, "large", 120, (*PYTEST, "tests/gpu/test_ops.py", "-k", LARGE), ("gpu", "checkout")),
    sanitized("memcheck"),
    sanitized("racecheck"),
    measured(2, "ceilings", 60),
    measured(2, "op_table", 240),
    measured(2, "compiled", 240),
    *(
        Step(
            2,
            f"ncu-{kernel}",
            60,
            (*NCU, kernel, "{python}", "-m", "rirn.bench.gpu_steps", "call", kernel),
            ("gpu", "ncu"),
        )
        for kernel in KERNELS
    ),
    measured(3, "steps", 240),
    measured(3, "profiles", 120),
    measured(3, "deblur", 90),
    measured(3, "guesses", 240),
)
COUNTERS = (
    "Duration",
    "DRAM Throughput",
    "Compute (SM) Throughput",
    "Achieved Occupancy",
    "Registers Per Thread",
)
"""Printed for a kernel; its log has the rest."""


class FirstGpu:
    """One run of the command: where everything is, and what is missing."""

    def __init__(self, out: Path, source: Path, rehearse: bool):
        self.out, self.source, self.rehearse = out, source, rehearse
        self.tree = out / "tree"  # what is built here, with the tests beside it
        no_gpu = why_no_gpu()
        self.missing = {
            "gpu": f"no GPU: {no_gpu}" if no_gpu else None,
            "checkout": None if (source / "setup.py").is_file() else f"{source} is no checkout with tests",
            **{
                tool: None if shutil.which(tool) else f"{tool} is not on PATH"
                for tool in ("compute-sanitizer", "ncu")
            },
            "nvcc": None if find_nvcc() else "there is no nvcc, so that what is installed is what is tested",
        }

    def why_not(self, step: Step) -> str | None:
        """Describe what a step lacks, or return None."""
        if self.rehearse and "{rows}" in step.argv:
            return None
        return next(filter(None, (self.missing[need] for need in step.needs)), None)

    def command(self, step: Step) -> list[str]:
        """The command line of a step."""
        parallel = ["-n", str(min(8, os.cpu_count() or 1))] if importlib.util.find_spec("xdist") else []
        places = {
            "{python}": [sys.executable],
            "{parallel}": parallel,
            "{tree}": [str(self.tree)],
            "{objects}": [str(self.out / "objects")],
            "{rows}": [str(self.out / f"{step.name}.jsonl")],
        }
        words = [part for word in step.argv for part in places.get(word, [word])]
        return [*words, *(["--rehearse"] if self.rehearse and "{rows}" in step.argv else [])]

    def environment(self, step: Step) -> dict[str, str]:
        """The environment of a step: it builds for the GPU of this machine."""
        found = dict(os.environ) | dict(step.env) | {"MAX_JOBS": str(os.cpu_count() or 1)}
        if self.missing["gpu"] is None:
            found["TORCH_CUDA_ARCH_LIST"] = "{}.{}".format(*torch.cuda.get_device_capability())
        return found

    def state(self, step: Step) -> Row:
        """The outcome of a step, or an empty dictionary."""
        path = self.out / f"{step.name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def note(self, step: Step, status: str, says: str, seconds: float = 0.0) -> None:
        """Save and print the outcome of a step."""
        with replacing(self.out / f"{step.name}.json") as partial:
            partial.write_text(
                json.dumps({"status": status, "says": says, "seconds": seconds}), encoding="utf-8"
            )
        print(f"{step.name}: {status}, {says}" + (f" ({seconds:.0f} s)" if seconds else ""), flush=True)

    def run(self, step: Step, left: float) -> None:
        """Run a step with at most ``left`` seconds, and save its outcome."""
        missing = self.why_not(step)
        if missing:
            return self.note(step, "skipped", missing)
        if left < LEAST_SECONDS:
            return self.note(step, "left", "the time of this part is over; start it again")
        begin, rows = time.monotonic(), self.out / f"{step.name}.jsonl"
        limit = min(step.seconds, left)
        while True:  # again after a crash, as long as there are new rows
            before = len(read_rows(rows))
            code = self.process(step, limit - (time.monotonic() - begin))
            if not code or len(read_rows(rows)) == before:
                break
        seconds = time.monotonic() - begin
        if code is None:
            return self.note(step, "cut off", f"after its {limit:.0f} s; start it again", seconds)
        says = summary(step, self.out) or f"see {step.name}.log"
        wrong = any(row.get("failed") for row in read_rows(rows))
        return self.note(step, "failed" if code or wrong else "done", says, seconds)

    def process(self, step: Step, seconds: float) -> int | None:
        """Run the command of a step and return its exit status, or None if it took too long."""
        built = (self.tree / "rirn").is_dir() or (self.tree / "tests").is_dir()
        folder = self.source if step.name == "build" else self.tree if built else Path.cwd()
        with (self.out / f"{step.name}.log").open("a", encoding="utf-8") as log:
            child = subprocess.Popen(
                self.command(step),
                cwd=folder,
                env=self.environment(step),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                return child.wait(max(seconds, 0.0))
            except subprocess.TimeoutExpired:
                return None
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()


def find_nvcc() -> bool:
    """Whether there is a CUDA compiler where setup.py looks for one."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    return shutil.which("nvcc") is not None or any((Path(h) / "bin" / "nvcc").is_file() for h in homes if h)


def summary(step: Step, out: Path) -> str:
    """Summarize the results of a step in one sentence."""
    rows = read_rows(out / f"{step.name}.jsonl")
    if rows:
        failed = [name for row in rows for name in row.get("failed", ())]
        return f"{len(rows)} rows" + (f", {len(failed)} entries without a number" if failed else "")
    lines = (out / f"{step.name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    found = list(csv.DictReader(line for line in lines if line.startswith('"')))  # from ncu
    values = {row.get("Metric Name"): f"{row.get('Metric Value')} {row.get('Metric Unit')}" for row in found}
    told = [f"{name} {values[name]}".strip() for name in COUNTERS if name in values]
    told += [line.strip("= ") for line in lines if re.search(r" passed| failed|ERROR SUMMARY", line)][-2:]
    return "; ".join(told or lines[-1:])[:LONGEST]


def cell(value: Any) -> str:
    """A value in a table."""
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value in (None, [], {}) else str(value)


def table(rows: Sequence[Row]) -> str:
    """Format rows as Markdown, with a column for every number and string; lists, errors and reports stay in the files."""
    names = list(dict.fromkeys(k for row in rows for k, v in row.items() if isinstance(v, str | int | float)))
    failed = any(row.get("failed") for row in rows)
    head = [*names, *(["failed"] if failed else [])]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = [cell(row.get(name)) for name in names]
        cells += ["; ".join(f"{k}: {v}" for k, v in row.get("failed", {}).items())] if failed else []
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(run: FirstGpu, part: int) -> str:
    """The results of a part: a table for each measured step, and finally one line for each step."""
    parts = []
    steps = [step for step in STEPS if step.part == part]
    for step in steps:
        rows = [row for row in read_rows(run.out / f"{step.name}.jsonl") if step.name != "facts"]
        if rows:
            parts.append(f"**{step.name}**\n\n{table(rows)}")
        if step.name == "guesses" and rows:
            found = json.dumps(tune.table({row["what"]: row for row in rows}, Sizes()))
            parts.append(f"What `rirn bench --tune` would make of these rows: `{found}`")
        for row in rows:
            parts += [f"{row['what']}\n\n{table(row['top'])}"] if "top" in row else []
    ends = [
        {"step": s.name, **{k: run.state(s).get(k, "") for k in ("status", "says", "seconds")}} for s in steps
    ]
    return "\n\n".join([*parts, table(ends)]) + "\n"


def copy_tests(run: FirstGpu) -> None:
    """Copy the tests beside what is built here, so that they import that and not the checkout."""
    if run.missing["checkout"] or run.missing["gpu"]:
        return
    for name in SOURCES:
        origin, target = run.source / name, run.tree / name
        if origin.is_dir():
            shutil.copytree(origin, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, target)


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m rirn.bench.first_gpu",
        description="Test and time everything on a GPU, in three parts of at most ten minutes each; an interrupted part resumes.",
        epilog="Exit status: 1 if a step failed or is left, or if --part is given and there is no GPU; else 0. A step that "
        "lacks a tool is skipped with a message and is no failure.",
    )
    options.add_argument("--part", type=int, choices=(1, 2, 3), help="part to run (default: all in turn)")
    options.add_argument(
        "--out", type=Path, default=Path("build/first-gpu"), help="output folder (default: %(default)s)"
    )
    options.add_argument("--source", type=Path, default=Path(), help="the checkout (default: this folder)")
    options.add_argument(
        "--minutes", type=float, default=9.5, help="time limit per part (default: %(default)s)"
    )
    options.add_argument(
        "--again",
        action="append",
        default=[],
        metavar="STEP",
        help="discard the results of a step, to run it again",
    )
    options.add_argument(
        "--rehearse", action="store_true", help="smoke test: measure at small sizes on the CPU"
    )
    return options


def selected(steps: Iterable[Step], names: Sequence[str]) -> list[Step]:
    """The steps with these names."""
    known = {step.name: step for step in steps}
    for name in names:
        if name not in known:
            raise RirnError(f"--again {name} is no step; take one of {', '.join(known)}")
    return [known[name] for name in names]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the requested parts and return the exit status."""
    options = parser().parse_args(argv)
    if not 0 < options.minutes <= 60:
        raise RirnError(f"--minutes must be above 0 and at most 60, got {options.minutes:g}")
    (options.out / "tree").mkdir(parents=True, exist_ok=True)
    run = FirstGpu(options.out.resolve(), options.source.resolve(), options.rehearse)
    for step in selected(STEPS, options.again):
        for kind in ("json", "jsonl", "log"):
            (run.out / f"{step.name}.{kind}").unlink(missing_ok=True)
    parts = [options.part] if options.part else [1, 2, 3]
    for part in parts:
        end = time.monotonic() + 60 * options.minutes
        if part == 1:
            copy_tests(run)
        for step in STEPS:
            if step.part == part and run.state(step).get("status") not in ("done", "failed"):
                run.run(step, end - time.monotonic())
        text = page(run, part)
        with replacing(run.out / f"part-{part}.md") as partial:
            partial.write_text(text, encoding="utf-8")
        print(f"\n{text}", flush=True)
    ends = {run.state(step).get("status") for step in STEPS if step.part in parts}
    without_gpu = options.part and run.missing["gpu"] and not options.rehearse
    return 1 if without_gpu or ends & {"failed", "cut off", "left"} else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RirnError as refusal:
        sys.exit(f"first_gpu: {refusal}")
    except OSError as error:
        sys.exit(f"first_gpu: {describe(error)}")
