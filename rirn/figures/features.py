"""Figure 6: whether blended features show the edges of the sharp frame."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.figures.canvas import save, show_images, write_csv
from rirn.figures.subjects import Clip, Subject, nearest, require_steps, walk

LUMA = (0.2126, 0.7152, 0.0722)
"""BT.709."""


def edges(images: Tensor) -> Tensor:
    """Magnitude of the gradient, by central differences, in the interior of [..., H, W]: [..., H - 2, W - 2]."""
    right = (images[..., 1:-1, 2:] - images[..., 1:-1, :-2]) / 2
    down = (images[..., 2:, 1:-1] - images[..., :-2, 1:-1]) / 2
    return torch.hypot(right, down)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson correlation over all positions; 0 if one of the tensors is constant."""
    a, b = (t.double().flatten() - t.double().mean() for t in (a, b))
    scale = a.norm() * b.norm()
    return (a @ b / scale).item() if scale else 0.0


def edge_correlations(features: Tensor, truth: Tensor) -> dict[str, float]:
    """Correlate edges of features [c, h, w] with those of the luma of the sharp frame [3, H, W], shrunk to h x w.

    ``edges`` uses the mean over channels of the gradient's magnitude, ``mean_edges`` the gradient of the mean over channels,
    which is the picture in the figure.
    """
    luma = torch.einsum("c,chw->hw", torch.tensor(LUMA).to(truth), truth)
    wanted = edges(F.adaptive_avg_pool2d(luma[None], features.shape[1:])[0])
    return {
        "edges": correlation(edges(features).mean(0), wanted),
        "mean_edges": correlation(edges(features.mean(0)), wanted),
    }


def draw(
    plt: Any, subjects: list[Subject], clips: list[Clip], out: Path, shown: int | None
) -> tuple[list[Path], list[str]]:
    """Write ``fig6.png`` and ``fig6.csv``; return their paths and summary lines.

    ``shown`` is the frame of the first clip to draw, by default the middle one. The first frame of a clip is not scored: it
    has nothing to be blended with.
    """
    rows, lines, pictures = [], [], []
    for subject in subjects:
        device = next(subject.model.parameters()).device
        found, candidates = [], []
        for number, clip in enumerate(clips):
            pairs = list(clip.tensors(device))
            for step in islice(walk(subject.model, (frame for frame, _ in pairs)), 1, None):
                truth = pairs[step.number][1]
                blended, features = (t[0].float() for t in (step.blending.blended, step.blending.features))
                of_blended, of_features = (edge_correlations(t, truth) for t in (blended, features))
                found.append(
                    {
                        "model": subject.label,
                        "weights": subject.weights,
                        "clip": clip.name,
                        "frame": step.number,
                        **{f"{name}_blended": value for name, value in of_blended.items()},
                        **{f"{name}_features": value for name, value in of_features.items()},
                    }
                )
                if number == 0:
                    length = len(pairs)
                    candidates.append(
                        (step.number, pairs[step.number], blended.mean(0).cpu(), of_blended["edges"])
                    )
        rows += found
        require_steps(subject, len(candidates))
        pictures.append(nearest(candidates, shown, length))
        means = {name: np.mean([row[name] for row in found]) for name in found[0] if "edges" in name}
        lines.append(
            f"{subject.label}: edges of f~ correlate {means['edges_blended']:.3f} with those of the sharp frame, of f "
            f"{means['edges_features']:.3f}; of the mean over channels {means['mean_edges_blended']:.3f} and "
            f"{means['mean_edges_features']:.3f}; {len(found)} frames"
        )
    number, pair, _, _ = pictures[0]
    figure, axes = plt.subplots(
        1, 2 + len(subjects), figsize=(3.4 * (2 + len(subjects)), 3), layout="constrained"
    )
    for place, image, name in zip(axes, pair, ("blurry", "sharp"), strict=False):
        show_images(place, image.permute(1, 2, 0).cpu(), f"frame {number}, {name}")
    for place, subject, (own, _, mean, value) in zip(axes[2:], subjects, pictures, strict=True):
        of = "" if own == number else f" of frame {own}"  # look-ahead ends earlier
        low, high = (float(mean.quantile(q)) for q in (0.005, 0.995))
        show_images(
            place, mean, f"{subject.label}: mean f~{of}, edges {value:.3f}", cmap="gray", vmin=low, vmax=high
        )
    figure.suptitle(clips[0].name, fontsize=9)
    return [save(plt, figure, out / "fig6.png"), write_csv(out / "fig6.csv", rows)], lines
