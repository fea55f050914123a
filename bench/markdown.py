"""The tables of a report in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rirn.bench.measure import COMPILED, EAGER, REFERENCE
from rirn.bench.report import Row, groups, limits_text, machine, megabytes, number, rate, who
from rirn.evaluation.paper import time_ratio
from rirn.models.registry import BASES

IRM_AND_ATB = (("irm_update", 20), ("ATB", 80))
"""Modules that RIRN adds to IFI-RNN, by name and channels."""


def tables(report: Mapping[str, Any]) -> str:
    """Return all tables of a report: times, ratios of networks with and without RIRN, memory."""
    found = report["results"]
    parts = [header(report)]
    parts += [text for text in (times(found), ratios(found), memory(found)) if text]
    return "\n\n".join(parts) + "\n"


def header(report: Mapping[str, Any]) -> str:
    """State where and how the numbers were measured."""
    sentences = [
        f"{machine(report)}, commit {report['commit'] or '-'}.",
        "Medians of alternating rounds; everyone's numbers, gradients too, are first held against float64.",
        f"Measured limits: {limits_text(report['limits'])}.",
        "Operations of convolutions are counted the direct way; a share above 100 % is what Winograd saves.",
    ]
    if report["peak_memory"]:
        sentences.append(f"Peak memory: {report['peak_memory']}.")
    return "\n".join((*sentences, "", *(f"`{command}`  " for command in report["command"].split("\n"))))


def best(rows: Sequence[Row], names: Sequence[str] | None = None) -> Row | None:
    """Return the fastest row of the competitors ``names``, or of all but the references."""
    timed = [row for row in rows if row["median_ms"] is not None]
    if names is None:
        timed = [row for row in timed if row["competitor"] not in (*EAGER, COMPILED)]
    else:
        timed = [row for row in timed if row["competitor"] in names]
    return min(timed, key=lambda row: row["median_ms"], default=None)


def times(rows: Sequence[Row]) -> str:
    """Return one line per case and pass: eager, compiled, and the fastest fused backend."""
    lines = []
    for group in groups(row for row in rows if row["group"] != "ratios"):
        fused, eager, compiled = best(group), best(group, [REFERENCE]), best(group, [COMPILED])
        if fused is None:
            continue
        cells = (
            fused["case"],
            fused["passes"],
            number(eager and eager["median_ms"], "{:.2f}"),
            "-" if compiled is None else f"{compiled['median_ms']:.2f} {compiled['layout']}",
            f"{fused['median_ms']:.2f} {who(fused)}",
            number(fused["speedup"], "{:.2f}x"),
            number(fused["speedup_over_compiled"], "{:.2f}x"),
            number(fused["speedup_over_fp32"], "{:.2f}x"),
            rate(fused),
            number(fused["share"], "{:.0%}"),
            f"{fused['error']:.1e}",
        )
        lines.append(cells)
    headings = (
        "case",
        "pass",
        "eager ms",
        "compiled ms",
        "fused ms",
        "over eager",
        "over compiled",
        "over fp32 eager",
        "rate",
        "of limit",
        "error",
    )
    if all(cells[7] == "-" for cells in lines):
        headings, lines = (*headings[:7], *headings[8:]), [(*c[:7], *c[8:]) for c in lines]
    return table(headings, lines)


def ratios(rows: Sequence[Row]) -> str:
    """Return, for every base network, the time of a step with RIRN relative to one without."""
    lines = []
    steps = [row for row in rows if row["group"] == "ratios"]
    for base in BASES:
        for dtype in dict.fromkeys(row["dtype"] for row in steps):
            pair = [
                [r for r in steps if (r["name"], r["dtype"]) == (name, dtype)]
                for name in (base, f"{base}+rirn")
            ]
            chosen = [best(r, [REFERENCE]) for r in pair] + [best(r) for r in pair]
            if None in chosen:
                continue
            ms = [row["median_ms"] for row in chosen]
            quotients = (f"{ms[1] / ms[0]:.2f}", f"{ms[3] / ms[2]:.2f}", f"{time_ratio(f'{base}+rirn'):.2f}")
            lines.append((base, dtype, *(f"{t:.1f}" for t in ms), *quotients))
    headings = (
        "base network",
        "dtype",
        "eager ms",
        "eager ms, + RIRN",
        "fused ms",
        "fused ms, + RIRN",
        "ratio, eager",
        "ratio, fused",
        "ratio in the paper",
    )
    return table(headings, lines)


def memory(rows: Sequence[Row]) -> str:
    """Return the memory kept for the backward pass, and the peak of a forward and backward pass."""
    lines, together = [], []
    for group in groups(row for row in rows if row["passes"] == "forward+backward"):
        eager, fused = best(group, [REFERENCE]), best(group)
        if eager is None or fused is None:
            continue
        kept = megabytes(eager["saved_bytes"]), megabytes(fused["saved_bytes"])
        peak = megabytes(eager["peak_bytes"]), megabytes(fused["peak_bytes"])
        lines.append((fused["case"], *_pair(*kept), *_pair(*peak)))
        if fused["dtype"] == "fp32" and (fused["name"], fused["channels"]) in IRM_AND_ATB:
            together.append(kept)
    if len(together) == len(IRM_AND_ATB):
        sums = (sum(kept) for kept in zip(*together, strict=True))
        lines.append(("IRM and ATB of ifi-rnn+rirn together", *_pair(*sums), "", "", ""))
    headings = (
        "forward+backward",
        "saved MB, eager",
        "saved MB, fused",
        "ratio",
        "peak MB, eager",
        "peak MB, fused",
        "ratio",
    )
    return table(headings, lines)


def _pair(eager: float | None, fused: float | None) -> tuple[str, str, str]:
    ratio = None if eager is None or fused is None or eager == 0 else fused / eager
    return number(eager, "{:.1f}"), number(fused, "{:.1f}"), number(ratio, "{:.2f}")


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, or an empty string if there are no lines."""
    if not lines:
        return ""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, ["---"] * len(headings), *lines))
