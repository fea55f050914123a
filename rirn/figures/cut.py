"""The cut test: what a frame loses if the three before it are blurred beyond use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.errors import RirnError
from rirn.evaluation.metrics import psnr, to_uint8
from rirn.figures.canvas import colours, save, show_legend, write_csv
from rirn.figures.subjects import Clip, Subject, restored
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State

BLURRED = 3
"""Frames that are blurred, t - 3 to t - 1."""
SIGMA = 6.0
"""Sigma of the Gaussian blur, in pixels."""
LEAD = 3
"""Minimum number of frames before the blurred ones, so that there is something to remember."""
AFTER = 3
"""Frames scored after t."""
STYLES = {"blurred past": "-", "no past": "--"}
SPACING = 4
"""Frames from one t to the next."""


def blurred(frames: Tensor, sigma: float = SIGMA) -> Tensor:
    """Blur [T, 3, H, W] with a Gaussian."""
    reach = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=frames.device) / sigma) ** 2)
    kernel = (weights / weights.sum()).to(frames.dtype).expand(3, 1, 1, -1)
    padded = F.pad(frames, [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


@torch.inference_mode()
def cut_scores(model: VideoDeblurrer, frames: Tensor, truth: Tensor) -> list[dict[str, float]]:
    """PSNR in dB of the frames t to t + 3, for every fourth t, from [T, 3, H, W] each.

    ``intact_dB`` is with all frames unchanged, ``cut_dB`` after three blurred ones, ``fresh_dB`` without any past.
    """
    states: list[State | None] = [None]  # states[t]: before frame t went in
    whole: dict[int, Tensor] = {}
    for t, frame in enumerate(frames):
        image, state = model.step(frame[None], states[-1])
        states.append(state)
        if image is not None:
            whole[t - model.delay] = image[0]
    rows = []
    for t in range(LEAD + BLURRED, len(frames) - AFTER - model.delay, SPACING):
        rest = list(frames[t : t + AFTER + 1 + model.delay])
        first = t - BLURRED
        changed = restored(model, [*blurred(frames[first:t]), *rest], states[first])
        fresh = restored(model, rest)
        for j in range(AFTER + 1):
            images = {"intact": whole.get(t + j), "cut": changed.get(BLURRED + j), "fresh": fresh.get(j)}
            target = to_uint8(truth[t + j])
            figures = {
                f"{name}_dB": float("nan") if image is None else psnr(to_uint8(image), target)
                for name, image in images.items()
            }
            rows.append({"t": t, "after": j, **figures})
    return rows


def draw(plt: Any, subjects: list[Subject], clips: list[Clip], out: Path) -> tuple[list[Path], list[str]]:
    """Write ``cut.png`` and ``cut.csv``; return their paths and summary lines.

    Raises:
        RirnError: no clip is long enough, or a model returns no image for the first frames it sees.
    """
    rows, lines = [], []
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    colour = colours(plt, (s.kind for s in subjects))
    for subject in subjects:
        if subject.model.dropped:
            raise RirnError(
                f"the cut test needs an image of the first frame without a past, and {subject.label} drops it (ends='drop')"
            )
        device = next(subject.model.parameters()).device
        found = []
        for clip in clips:
            frames, truth = (torch.stack(half) for half in zip(*clip.tensors(device), strict=True))
            scores = cut_scores(subject.model, frames, truth)
            found += [
                {"model": subject.label, "weights": subject.weights, "clip": clip.name, **s} for s in scores
            ]
        if not found:
            needed = LEAD + BLURRED + AFTER + 1 + subject.model.delay
            raise RirnError(f"the cut test of {subject.label} needs clips of at least {needed} frames")
        rows += found
        for name, meaning in zip(("cut", "fresh"), STYLES, strict=True):
            losses = [
                [row["intact_dB"] - row[f"{name}_dB"] for row in found if row["after"] == j]
                for j in range(AFTER + 1)
            ]
            means = [float(np.mean(values)) for values in losses]
            cuts = len(losses[0])
            errors = [float(np.std(v, ddof=1)) / cuts**0.5 if cuts > 1 else math.nan for v in losses]
            axes.errorbar(
                range(AFTER + 1),
                means,
                errors,
                marker="o",
                linestyle=STYLES[meaning],
                color=colour[subject.kind],
                markersize=3,
                capsize=2,
            )
            lines.append(
                f"{subject.label}, {meaning}: {means[0]:.3f} ± {errors[0]:.3f} dB lost at t, {cuts} cuts"
                if cuts > 1
                else f"{subject.label}, {meaning}: {means[0]:.3f} dB lost at t, 1 cut"
            )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(AFTER + 1), [f"t+{j}" if j else "t" for j in range(AFTER + 1)])
    axes.set_ylabel(f"PSNR lost after {BLURRED} blurred frames, dB (± standard error)")
    show_legend(plt, figure, colour, STYLES)
    return [save(plt, figure, out / "cut.png"), write_csv(out / "cut.csv", rows)], lines
