"""Time the fused ops against the eager and the compiled reference: ``rirn bench``, ``python -m rirn.bench``.

Every competitor first has to reproduce the reference, forward and every gradient; one that does not gets no
number, and the command ends with exit status 1. Times are medians over alternating rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rirn import doctor
from rirn.bench.cases import DTYPES, LIMITS, Case, competitors, errors, make_inputs, run, to_double
from rirn.bench.timing import alternate
from rirn.errors import RirnError
from rirn.ops._library import library

# Channels in the published models; of conv3x3_chain a residual block.
SIZES = (("atb_blend", 80), ("conv3x3_chain", 80), ("irm_update", 20), ("irm_update", 16))
PASSES = ("forward", "forward+backward")


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(
        prog="rirn bench",
        description="Time the fused ops against the eager and the compiled reference, equality first.",
        epilog="example: rirn bench --size 180x320 --dtype bf16 --json timings.json",
    )
    options.add_argument(
        "--size", default=None, help="height x width of the features (default: 180x320, a 720p frame / 4)"
    )
    options.add_argument(
        "--dtype", choices=sorted(DTYPES), action="append", help="may be given twice (default: fp32)"
    )
    options.add_argument(
        "--op", choices=sorted({op for op, _ in SIZES}), action="append", help="(default: all)"
    )
    options.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="(default: %(default)s)"
    )
    options.add_argument("--rounds", type=int, default=None, help="timed rounds (default: 20)")
    options.add_argument("--quick", action="store_true", help="45x80, 3 rounds, without torch.compile")
    options.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the results, with machine and versions"
    )
    return options


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width of e.g. ``180x320``."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise RirnError(f"--size must be HEIGHTxWIDTH such as 180x320, got {text!r}")
    return int(match[1]), int(match[2])


def parse_device(text: str) -> torch.device:
    """Return the device of e.g. ``cpu`` or ``cuda:1``, if tensors can be put there."""
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise RirnError(f"--device {text} cannot be used ({str(error).splitlines()[0]}): try cpu") from error
    return device


def measure(case: Case, device: torch.device, rounds: int, with_compiled: bool) -> list[dict[str, Any]]:
    """Check and time everyone on one case; one row each, with ``median_ms`` None where the numbers do not
    match."""
    inputs = make_inputs(case, device)
    grad = None if case.passes == "forward" else torch.randn_like(inputs[0])
    functions = competitors(case.op, device, with_compiled)
    truth = run(functions["reference"], *to_double(inputs, grad))
    found = {name: errors(run(function, inputs, grad), truth) for name, function in functions.items()}
    matching = {
        name: lambda function=function: run(function, inputs, grad)
        for name, function in functions.items()
        if max(found[name]) <= LIMITS[case.dtype]
    }
    times = alternate(matching, rounds, device)
    rows = []
    for name in functions:
        row = {
            "op": case.op,
            "channels": case.channels,
            "size": f"{case.height}x{case.width}",
            "dtype": case.dtype,
            "passes": case.passes,
            "competitor": name,
            "error": max(found[name]),
            "median_ms": None,
        }
        if name in times:
            time = times[name]
            row |= {"median_ms": time.median, "quartiles_ms": [time.low, time.high]}
            for column, rival in (("speedup", "reference"), ("speedup_over_compiled", "compiled reference")):
                row[column] = times[rival].median / time.median if rival in times else None
            row["GB_per_s"] = case.ideal_bytes / time.median / 1e6 if case.ideal_bytes else None
        rows.append(row)
    return rows


def format_rows(case: Case, rows: list[dict[str, Any]]) -> str:
    """Return the rows of one case as a table."""

    def number(value: float | None, pattern: str) -> str:
        return "-" if value is None else pattern.format(value)

    lines = [str(case)]
    lines.append(f"  {'':20}{'median ms':>10}{'quartiles':>18}{'x eager':>9}{'x compiled':>12}{'GB/s':>8}")
    for row in rows:
        if row["median_ms"] is None:
            lines.append(
                f"  {row['competitor']:20}  MISMATCH: error {row['error']:.3g} against float64, not timed"
            )
            continue
        low, high = row["quartiles_ms"]
        lines.append(
            f"  {row['competitor']:20}{row['median_ms']:10.3f}{f'{low:.3f} {high:.3f}':>18}"
            f"{row['speedup']:9.2f}{number(row['speedup_over_compiled'], '{:.2f}'):>12}"
            f"{number(row['GB_per_s'], '{:.1f}'):>8}"
        )
    return "\n".join(lines)


def commit() -> str | None:
    """Return the commit of the checkout that rirn is imported from, with ``+`` if files differ; None for an
    install."""
    root = Path(doctor.__file__).resolve().parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return None
    git = ["git", "-C", str(root)]
    head = subprocess.run(
        [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode != 0:
        return None
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """Return what a reader needs to judge or repeat the numbers; no paths of this machine."""
    facts = doctor.report()
    return {
        "command": shlex.join(["python", "-m", "rirn.bench", *command]),
        "commit": commit(),
        "versions": facts["versions"],
        "devices": facts["devices"],
        "threads": facts["threads"],
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_isa": library().isa,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 if someone does not reproduce the reference."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse_args(argv)
    height, width = parse_size(options.size or ("45x80" if options.quick else "180x320"))
    rounds = options.rounds or (3 if options.quick else 20)
    device = parse_device(options.device)
    facts = provenance(argv)
    model = next((d["model"] for d in facts["devices"] if d["name"].startswith(device.type)), device.type)
    threads = facts["threads"]["torch"]
    print(f"{model}, torch {torch.__version__}, {threads} threads, commit {facts['commit'] or '-'}")

    results = []
    for op, channels in SIZES:
        if options.op and op not in options.op:
            continue
        for dtype in options.dtype or ["fp32"]:
            for passes in PASSES:
                case = Case(op, channels, height, width, dtype, passes)
                rows = measure(case, device, rounds, with_compiled=not options.quick)
                results += rows
                print(format_rows(case, rows), flush=True)
    if options.json is not None:
        text = json.dumps({**facts, "rounds": rounds, "results": results}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    mismatches = sum(row["median_ms"] is None for row in results)
    if mismatches:
        print(f"{mismatches} of {len(results)} rows do not reproduce the reference", file=sys.stderr)
    return 1 if mismatches else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RirnError as refusal:
        sys.exit(f"rirn.bench: {refusal}")
