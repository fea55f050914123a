"""Plots of a report: speedups, and how close they come to the machine's limits."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rirn.bench.limits import product
from rirn.bench.markdown import best
from rirn.bench.measure import COMPILED, REFERENCE
from rirn.bench.report import Row, groups, machine
from rirn.errors import RirnError
from rirn.files import replacing

MARKS = {REFERENCE: "o", COMPILED: "s"}
FUSED_MARK = "^"


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``speedups.png`` and, for every dtype, ``roofline-<dtype>.png``; return their paths.

    Raises:
        RirnError: matplotlib is not installed, the folder cannot be made, or there is nothing to draw.
    """
    plt = pyplot("--plot", "bench")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RirnError(f"cannot make the folder {folder} for the plots: {error}") from error
    paths = []
    shown = [r for r in report["results"] if r["group"] != "ratios" and r["passes"] != "backward"]
    bars = [group for group in groups(shown) if best(group)]
    if bars:
        paths.append(folder / "speedups.png")
        _draw_speedups(plt, bars, machine(report), paths[-1])
    for dtype in dict.fromkeys(row["dtype"] for row in report["results"]):
        points = _points(report["results"], dtype)
        if points:
            paths.append(folder / f"roofline-{dtype}.png")
            _draw_roofline(plt, points, report, dtype, paths[-1])
    if not paths:
        raise RirnError("there is nothing to draw: no case was timed; drop the options that leave cases out")
    return paths


def pyplot(wanted_by: str, extra: str) -> Any:
    """Return matplotlib's pyplot, drawing to files; the arguments name what needs it and the extra that installs it.

    Raises:
        RirnError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise RirnError(f"{wanted_by} needs matplotlib: pip install 'rirn[{extra}]'") from error
    matplotlib.use("Agg")
    return importlib.import_module("matplotlib.pyplot")


def _draw_speedups(plt: Any, bars: list[list[Row]], title: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.42 * len(bars)), layout="constrained")
    heights = range(len(bars), 0, -1)
    columns = (("speedup", "over eager", 0.18), ("speedup_over_compiled", "over torch.compile", -0.18))
    for column, label, shift in columns:
        values = [best(group)[column] or 0 for group in bars]
        if not any(values):
            continue
        drawn = axes.barh([y + shift for y in heights], values, 0.34, label=label)
        axes.bar_label(drawn, [f"{v:.2f}x" if v else "" for v in values], padding=2, fontsize=7)
    axes.margins(x=0.08, y=0.01)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(list(heights), [f"{g[0]['case']} {g[0]['passes']}" for g in bars], fontsize=8)
    axes.set_xlabel("times faster than the reference")
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=8)
    _save(plt, figure, path)


def _points(rows: list[Row], dtype: str) -> list[Row]:
    """Forward passes of ops and modules with known operation counts, the fastest of each kind of competitor."""
    timed = [
        r
        for r in rows
        if r["group"] in ("ops", "modules") and r["dtype"] == dtype and r["passes"] == "forward"
    ]
    found = []
    for group in groups(timed):
        fastest = (best(group, [REFERENCE]), best(group, [COMPILED]), best(group))
        found += [row for row in fastest if row is not None and row["flops"]]
    return found


def _draw_roofline(plt: Any, points: list[Row], report: Mapping[str, Any], dtype: str, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    copy, bound = report["limits"]["copy"], product(report["limits"], dtype)
    intensities = [row["flops"] / row["ideal_bytes"] for row in points]
    low, high = min(0.1, *intensities) / 2, max(100.0, *intensities) * 2
    edge = bound / copy
    corners = sorted({low, min(max(edge, low), high), high})
    axes.loglog(corners, [min(bound, copy * x) for x in corners], color="black")
    axes.annotate(f"copy {copy:.1f} GB/s", (low * 1.3, copy * low * 1.9), fontsize=8, rotation=30)
    axes.annotate(f"product {bound:.0f} GFLOP/s", (high / 2, bound * 1.07), fontsize=8, ha="right")
    colours = plt.get_cmap("tab20").colors
    cases = list(dict.fromkeys(row["case"] for row in points))
    for row, x in zip(points, intensities, strict=True):
        colour = colours[cases.index(row["case"]) % len(colours)]
        mark = MARKS.get(row["competitor"], FUSED_MARK)
        axes.plot(x, row["GFLOP_per_s"], mark, color=colour, markersize=7)
    for i, case in enumerate(cases):
        axes.plot([], [], "-", color=colours[i % len(colours)], linewidth=5, label=case)
    for name, mark in (*MARKS.items(), ("fastest fused form", FUSED_MARK)):
        axes.plot([], [], mark, color="grey", label=name)
    axes.set_xlabel("operations per byte that has to move, each tensor once")
    axes.set_ylabel("GFLOP/s, convolutions counted the direct way")
    axes.set_title(f"{machine(report)}; above the roof is what Winograd saves", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(True, which="both", alpha=0.2)
    _save(plt, figure, path)


def _save(plt: Any, figure: Any, path: Path) -> None:
    with replacing(path) as partial:
        figure.savefig(partial, dpi=130, format="png")
    plt.close(figure)
