"""Figure 4: the sums of the two weights with which features are blended."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rirn.figures.canvas import colours, save, show_legend, write_csv
from rirn.figures.subjects import Clip, Subject, require_steps, walk
from rirn.models.deblurrer import VideoDeblurrer

BIN = 0.01
"""Width of a histogram bin; 1 is the centre of one."""
BINS = round(2 / BIN) + 1
FINE = 10
"""Bins for the median per bin of the histogram."""

FLOOR = 1e-5
"""Smaller shares are not drawn."""


def histogram(model: VideoDeblurrer, clips: list[Clip]) -> np.ndarray:
    """Count w~ + w over all pixels, channels and frames except the first restored one of each clip: [BINS * FINE].

    In that frame, w~ multiplies zeros. Bin i holds sums from ``(i / FINE - 1 / 2) * BIN`` on.
    """
    device = next(model.parameters()).device
    counts = np.zeros(BINS * FINE, np.int64)
    for clip in clips:
        for step in islice(walk(model, (frame for frame, _ in clip.tensors(device))), 1, None):
            with torch.inference_mode():
                prev, cur = step.blending.maps()
                # In float64, else sums near the edge of a bin fall on its wrong side.
                places = ((prev.double() + cur.double()) / BIN + 0.5).mul(FINE).floor().long()
                counts += np.bincount(
                    places.clamp(0, len(counts) - 1).flatten().cpu().numpy(), minlength=len(counts)
                )
    return counts


def summary(counts: np.ndarray) -> dict[str, float]:
    """Median, and the shares of sums below and above the bin around 1."""
    total = counts.sum()
    coarse = counts.reshape(BINS, FINE).sum(1)
    one = round(1 / BIN)
    middle = int(np.searchsorted(np.cumsum(counts), total / 2))
    return {
        "median": ((middle + 0.5) / FINE - 0.5) * BIN,
        "share_below_1": float(coarse[:one].sum() / total),
        "share_at_1": float(coarse[one] / total),
        "share_above_1": float(coarse[one + 1 :].sum() / total),
    }


def draw(plt: Any, subjects: list[Subject], clips: list[Clip], out: Path) -> tuple[list[Path], list[str]]:
    """Write ``fig4.png``, ``fig4-histogram.csv`` and ``fig4.csv``; return their paths and summary lines."""
    bins, sums, lines = [], [], []
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    colour = colours(plt, (s.kind for s in subjects))
    for subject in subjects:
        counts = histogram(subject.model, clips)
        require_steps(subject, counts.sum())
        found = summary(counts)
        sums.append({"model": subject.label, "weights": subject.weights, **found})
        shares = counts.reshape(BINS, FINE).sum(1) / counts.sum()
        bins += [
            {
                "model": subject.label,
                "weights": subject.weights,
                "sum": round(i * BIN, 6),
                "share": float(share),
            }
            for i, share in enumerate(shares)
        ]
        edges = (np.arange(BINS + 1) - 0.5) * BIN
        axes.stairs(shares.clip(FLOOR), edges, color=colour[subject.kind])
        axes.axvline(found["median"], color=colour[subject.kind], linestyle=":", linewidth=1)
        lines.append(
            f"{subject.label}: median {found['median']:.3f}, {found['share_below_1']:.1%} below 1, "
            f"{found['share_above_1']:.1%} above"
        )
    axes.set_yscale("log")
    axes.set_xlim(0, 2)
    axes.set_ylim(FLOOR * 2, 2)
    axes.set_xlabel("w~ + w (dotted: median)")
    axes.set_ylabel(f"share of all places, bins of {BIN}")
    show_legend(plt, figure, colour)
    paths = [save(plt, figure, out / "fig4.png")]
    return [*paths, write_csv(out / "fig4.csv", sums), write_csv(out / "fig4-histogram.csv", bins)], lines
