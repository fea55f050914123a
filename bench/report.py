"""Results as rows of JSON types, as a table on the terminal and as a file; comparison of two files."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rirn import doctor
from rirn.bench.limits import product
from rirn.bench.measure import COMPILED, EAGER, REFERENCE, VALUE_BAR, WIDE, Result
from rirn.bench.subjects import work
from rirn.errors import RirnError
from rirn.measure import memory
from rirn.ops._library import library

Row = dict[str, Any]

CASE = ("group", "name", "channels", "batch", "frames", "size", "dtype")
KEY = (*CASE, "passes", "competitor", "layout")
"""Fields that two rows must share to be compared."""

PROVENANCE = ("command", "commit", "versions", "threads", "devices", "limits", "results")
ROW = ("case", "error", "gradient_error", "median_ms")
"""Fields of every report, and fields of every row besides its key."""


def rows(results: Sequence[Result], limits: Mapping[str, float]) -> list[Row]:
    """Return a row for each result of :func:`rirn.bench.measure.measure`.

    Times in ms, ``speedup`` over the eager reference, ``speedup_over_compiled`` over the compiled one in its faster layout,
    ``speedup_over_fp32`` over the eager reference in float32; rates of the minimum work of the pass, with their ``share`` of
    the measured limit; memory in bytes. ``median_ms`` is None if the results are wrong.
    """
    found = []
    for result in results:
        case, time = result.case, result.time
        row: Row = {
            **case.key(),
            "case": str(case),
            "passes": result.passes,
            "competitor": result.competitor.name,
            "layout": result.competitor.layout,
            "error": result.errors.value,
            "gradient_error": None if result.passes == "forward" else result.errors.gradient,
            "median_ms": None,
        }
        if time is not None:
            row |= {
                "median_ms": time.median,
                "quartiles_ms": [time.low, time.high],
                "rounds": time.rounds,
                "graph": result.replayed,
                "peak_bytes": result.peak,
                "saved_bytes": result.saved,
            }
            same = [r for r in results if r.case == case and r.passes == result.passes and r.time is not None]
            for column, baseline in (
                ("speedup", REFERENCE),
                ("speedup_over_compiled", COMPILED),
                ("speedup_over_fp32", WIDE),
            ):
                theirs = [r.time.median for r in same if r.competitor.name == baseline]
                row[column] = min(theirs) / time.median if theirs else None
            row |= _rates(result, time.median, limits)
        found.append(row)
    return found


def _rates(result: Result, ms: float, limits: Mapping[str, float]) -> Row:
    flops, moved = work(result.case, result.passes)
    dtype = "fp32" if result.competitor.wide else result.case.dtype
    row = {
        "flops": flops,
        "ideal_bytes": moved,
        "GFLOP_per_s": None if flops is None else flops / ms / 1e6,
        "GB_per_s": moved / ms / 1e6,
        "limit": "copy" if result.case.is_pointwise else dtype,
    }
    return {**row, "share": _share(row, limits)}


def _share(row: Row, bounds: Mapping[str, float]) -> float | None:
    if row["limit"] == "copy":
        return row["GB_per_s"] / bounds["copy"]
    return None if row["GFLOP_per_s"] is None else row["GFLOP_per_s"] / product(bounds, row["limit"])


def rate(row: Row) -> str:
    """The relevant rate of a row, as text."""
    if row["limit"] == "copy":
        return f"{row['GB_per_s']:.1f} GB/s"
    return number(row["GFLOP_per_s"], "{:.0f} GFLOP/s")


def number(value: float | None, pattern: str) -> str:
    """Format a number, or a dash for None."""
    return "-" if value is None else pattern.format(value)


def groups(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows by case and pass, in their original order."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault((*(row[f] for f in CASE), row["passes"]), []).append(row)
    return list(found.values())


def who(row: Row) -> str:
    """Competitor and layout as text; the layout is omitted for the eager references."""
    return row["competitor"] if row["competitor"] in EAGER else f"{row['competitor']} {row['layout']}"


HEADINGS = (
    ("", 34),
    ("median ms", 11),
    ("quartiles", 20),
    ("x eager", 9),
    ("x compiled", 12),
    ("rate", 14),
    ("limit", 8),
    ("error", 9),
    ("peak MB", 10),
    ("saved MB", 10),
)


def format_rows(rows: Sequence[Row]) -> str:
    """Return the rows of one case and pass as a table."""
    lines = [f"{rows[0]['case']} {rows[0]['passes']}"]
    lines.append("  " + "".join(f"{text:>{w}}" if text else " " * w for text, w in HEADINGS))
    for row in rows:
        if row["median_ms"] is None:
            errors = f"error {row['error']:.3g}"
            if row["gradient_error"] is not None:
                errors += f", {row['gradient_error']:.3g} of the gradients,"
            lines.append(f"  {who(row):34}  MISMATCH: {errors} against float64, not timed")
            continue
        cells = (
            f"{row['median_ms']:.3f}",
            "{:.3f} {:.3f}".format(*row["quartiles_ms"]),
            number(row["speedup"], "{:.2f}"),
            number(row["speedup_over_compiled"], "{:.2f}"),
            rate(row),
            number(row["share"], "{:.0%}"),
            f"{row['error']:.1e}",
            number(megabytes(row["peak_bytes"]), "{:.1f}"),
            number(megabytes(row["saved_bytes"]), "{:.1f}"),
        )
        widths = [w for _, w in HEADINGS[1:]]
        lines.append(f"  {who(row):34}" + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True)))
    return "\n".join(lines)


def megabytes(value: int | None) -> float | None:
    """Convert bytes to MB (1e6 bytes)."""
    return None if value is None else value / 1e6


def keep(
    rows: Iterable[Row],
    groups: Sequence[str],
    names: Sequence[str],
    dtypes: Sequence[str],
    passes: Sequence[str],
) -> list[Row]:
    """Return the rows of some groups, names, dtypes and passes; an empty list means all."""
    wanted = (("group", groups), ("name", names), ("dtype", dtypes), ("passes", passes))
    return [row for row in rows if all(not some or row[field] in some for field, some in wanted)]


def missed_bars(rows: Iterable[Row]) -> list[str]:
    """Return a sentence for each fp32 row that is correct but less precise than it should be."""
    return [
        f"{row['case']} {row['passes']}, {who(row)}: error {row['error']:.1e} is above {VALUE_BAR:.0e}"
        for row in rows
        if row["dtype"] == "fp32" and row["median_ms"] is not None and row["error"] > VALUE_BAR
    ]


def provenance(command: Sequence[str], device: torch.device) -> dict[str, Any]:
    """Return what a reader needs to judge or repeat the numbers; no paths of this machine."""
    facts = doctor.report()
    names = {"cpu", str(device), f"{device.type}:{device.index or 0}"}
    return {
        "command": shlex.join(["python", "-m", "rirn.bench", *command]),
        "commit": doctor.commit(),
        "versions": facts["versions"],
        "device": device.type,
        "devices": [d for d in facts["devices"] if d["name"] in names],
        "threads": facts["threads"],
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "cpu_isa": library().isa,
        "peak_memory": memory.METHODS.get(device.type),
    }


def machine(facts: Mapping[str, Any]) -> str:
    """The machine as text: device model, threads, versions."""
    device = facts["devices"][-1]
    where = f", {facts['threads']['torch']} threads, {facts['cpu_isa']}" if device["name"] == "cpu" else ""
    return f"{device['model']}{where}, torch {facts['versions']['torch']}"


def limits_text(limits: Mapping[str, float]) -> str:
    """The measured limits as text."""
    products = ", ".join(
        f"{name} product {value:.0f} GFLOP/s" for name, value in limits.items() if name != "copy"
    )
    return f"copy {limits['copy']:.1f} GB/s, {products}"


def load(path: Path) -> dict[str, Any]:
    """Read a file of results.

    Raises:
        RirnError: it cannot be read or was not written by this version of the command.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RirnError(f"cannot read results from {path}: {error}") from error
    if not _is_report(report):
        raise RirnError(f"{path} holds no results of this command; give a file that --json wrote")
    return report


def _is_report(found: Any) -> bool:
    """Whether an object has the fields of a report and of its rows."""
    if not isinstance(found, dict) or not found.keys() >= set(PROVENANCE):
        return False
    rows = found["results"]
    return isinstance(rows, list) and all(
        isinstance(row, dict) and row.keys() >= {*KEY, *ROW} for row in rows
    )


def join(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge several reports of one machine, later rows replacing earlier ones with the same key; commands and commits are those
    of the reports with rows left.

    The limits are the highest measured, and every share is relative to them.

    Raises:
        RirnError: the machines differ.
    """
    machines = list(dict.fromkeys(machine(r) for r in reports))
    if len(machines) > 1:
        named = "; ".join(f"{m!r:.200}" for m in machines)  # the files may hold anything
        raise RirnError(f"results of different machines do not belong into one table: {named}")
    limits: dict[str, float] = {}
    for name, value in (pair for r in reports for pair in r["limits"].items()):
        limits[name] = max(value, limits.get(name, 0.0))
    last = {tuple(row[f] for f in KEY): (i, dict(row)) for i, r in enumerate(reports) for row in r["results"]}
    merged = [row for _, row in last.values()]
    for row in merged:
        if row["median_ms"] is not None:
            row["share"] = _share(row, limits)
    left = [reports[i] for i in sorted({i for i, _ in last.values()})]
    return {
        **reports[-1],
        "command": "\n".join(dict.fromkeys(r["command"] for r in left)),
        "commit": ", ".join(dict.fromkeys(str(r["commit"]) for r in left)),
        "limits": limits,
        "results": merged,
    }


def compare(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """Return the time of each row relative to the same row of an older file, and how the machines differ."""
    lines = []
    if machine(new) != machine(old):
        lines.append(f"WARNING: not the same machine: {machine(old)} then, {machine(new)} now")
    before = {tuple(row[f] for f in KEY): row["median_ms"] for row in old["results"]}
    lines.append(f"time now / then (commit {old['commit'] or '-'}); below 1 is faster now")
    for row in new["results"]:
        then = before.get(tuple(row[f] for f in KEY))
        if then and row["median_ms"]:
            ratio = row["median_ms"] / then
            text = f"{row['case']} {row['passes']}, {who(row)}"
            lines.append(f"  {ratio:6.2f}  {then:9.3f} -> {row['median_ms']:9.3f} ms  {text}")
    if len(lines) < 3 and not lines[-1].startswith("  "):
        lines.append("  no row of an equal case")
    return "\n".join(lines)
