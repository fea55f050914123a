"""The claims with their intervals; learning curves, and the gain of additions by the number of frames since a sharp one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rirn.figures.canvas import colours, save, show_legend


def draw_differences(
    plt: Any, found: Sequence[tuple[str, str, tuple[float, float, float]]], path: Path
) -> Path:
    """Write a plot of the difference behind each claim, and return its path.

    Args:
        found: sentence, verdict, and mean, lower and upper end of the difference in dB.
    """
    figure, axes = plt.subplots(figsize=(11, 1 + 0.35 * len(found)), layout="constrained")
    colour = colours(plt, sorted({verdict for _, verdict, _ in found}))
    for row, (_, verdict, (mean, low, high)) in enumerate(found):
        axes.errorbar(
            mean,
            row,
            xerr=[[max(0.0, mean - low)], [max(0.0, high - mean)]],
            fmt="o",
            markersize=4,
            capsize=3,
            color=colour[verdict],
        )
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(found)), [sentence for sentence, _, _ in found])
    axes.invert_yaxis()
    axes.set_xlabel("difference in PSNR, dB (95 % of draws)")
    axes.grid(True, axis="x", alpha=0.2)
    show_legend(plt, figure, colour)
    return save(plt, figure, path)


def draw(
    plt: Any,
    base: str,
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]],
    since: Mapping[str, np.ndarray],
    path: Path,
) -> Path:
    """Write a plot of the networks on a base, and return its path.

    Args:
        curves: steps [K] and gains [seeds, K] by network.
        since: mean, lower and upper end by network, [frames since a sharp one, 3].
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    colour = colours(plt, curves)
    for network, (steps, gains) in curves.items():
        left.plot(steps, gains.mean(0), color=colour[network], linewidth=1.2)
        left.fill_between(steps, gains.min(0), gains.max(0), color=colour[network], alpha=0.15, linewidth=0)
    left.set_xlabel("steps")
    left.set_ylabel("PSNR over the input, dB (mean and range of the seeds)")
    for number, (network, rows) in enumerate(since.items()):
        mean, low, high = rows.T
        places = np.arange(1, len(rows) + 1) + 0.12 * (number - (len(since) - 1) / 2)
        right.errorbar(
            places, mean, (mean - low, high - mean), fmt="o-", markersize=3, capsize=2, color=colour[network]
        )
    right.axhline(0, color="black", linewidth=0.8)
    if since:
        right.set_xticks(range(1, len(rows) + 1), [*map(str, range(1, len(rows))), f"{len(rows)} or more"])
    right.set_xlabel("frames since a sharp one")
    right.set_ylabel(f"PSNR over {base}, dB (95 % of draws)")
    for axes in (left, right):
        axes.grid(True, alpha=0.2)
    show_legend(plt, figure, colour)
    return save(plt, figure, path)
