"""How far back a restored frame depends on the input: the norm of dL_t/dB_{t-k}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.figures.canvas import colours, save, show_legend, write_csv
from rirn.figures.subjects import Clip, Subject
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State

SIDE = 128
"""Maximum side, in pixels, of the central crop that is used: gradients of a whole clip take memory."""
PROBES = 4
"""Number of random directions; the mean over a whole frame changes little with more of them."""


def gradient_norms(
    model: VideoDeblurrer, clip: Tensor, lags: int, seed: int = 0, state: State | None = None
) -> list[float]:
    """Norm of dL_t/dB_{t-k} for k = 0 to ``lags``, where t is the last frame whose look-ahead is inside the clip.

    This is the Frobenius norm over the square root of the number of values in L_t: the RMS change of one value of L_t if all
    values of B_{t-k} change randomly by 1. It is estimated from ``PROBES`` random directions v as E |J^T v|^2 = |J|^2.

    Args:
        model: with frozen weights.
        clip: [T, 3, H, W] in [0, 1], T > lags + model.delay and T > model.dropped + model.delay.
        state: the state after the frames before the clip, without gradients; None at the start of a video.
    """
    clip = clip.detach().requires_grad_()
    last = clip.shape[0] - 1 - model.delay
    images, _ = model(clip[None], state, return_state=True)  # which returns no frame after t
    image = images[0, -1]
    generator = torch.Generator().manual_seed(seed)
    squares = torch.zeros(lags + 1, dtype=torch.float64)
    for i in range(PROBES):
        direction = torch.randn(image.shape, generator=generator).to(image)
        (gradient,) = torch.autograd.grad(image, clip, direction, retain_graph=i < PROBES - 1)
        parts = gradient.double().square().sum((1, 2, 3)).cpu()
        squares += parts[last - lags : last + 1].flip(0)
    return (squares / PROBES / image.numel()).sqrt().tolist()


def draw(
    plt: Any, subjects: list[Subject], clips: list[Clip], out: Path, lags: int, seed: int
) -> tuple[list[Path], list[str]]:
    """Write ``reach.png`` and ``reach.csv``; return their paths and summary lines.

    Raises:
        RirnError: no clip is long enough.
    """
    rows, lines = [], []
    for subject in subjects:
        needed = max(lags, subject.model.dropped) + 1 + subject.model.delay
        device = next(subject.model.parameters()).device
        for clip in clips:
            frames = [frame for frame, _ in clip.tensors(device)]
            if len(frames) < needed:
                continue
            whole, state = _centre(torch.stack(frames)), None
            with torch.no_grad():
                for frame in whole[:-needed]:
                    state = subject.model.step(frame[None], state)[1]
            norms = gradient_norms(subject.model, whole[-needed:], lags, seed, state)
            rows += [
                {"model": subject.label, "weights": subject.weights, "clip": clip.name, "k": k, "norm": norm}
                for k, norm in enumerate(norms)
            ]
        norms = _means(rows, subject, lags)
        if not norms:
            raise RirnError(
                f"the reach over {lags} frames of {subject.label} needs clips of {needed} frames; lower --lags"
            )
        some = [k for k in (1, 2, 5, 10, 20) if k <= lags]
        lines.append(f"{subject.label}: " + ", ".join(f"k={k} {norms[k]:.2e}" for k in (0, *some)))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    colour = colours(plt, (s.kind for s in subjects))
    for subject in subjects:
        axes.semilogy(
            range(lags + 1),
            _means(rows, subject, lags),
            "o-",
            markersize=3,
            color=colour[subject.kind],
        )
    axes.set_xlabel("k, frames back")
    axes.set_ylabel("norm of dL_t / dB_{t-k}, per value of L_t")
    axes.grid(True, which="both", alpha=0.2)
    show_legend(plt, figure, colour)
    return [save(plt, figure, out / "reach.png"), write_csv(out / "reach.csv", rows)], lines


def _centre(clip: Tensor) -> Tensor:
    """The central crop, its corner at multiples of 4."""
    top, left = (max(0, side - SIDE) // 8 * 4 for side in clip.shape[2:])
    return clip[..., top : top + SIDE, left : left + SIDE]


def _means(rows: list[dict[str, Any]], subject: Subject, lags: int) -> list[float]:
    """Mean norm over the clips for each k; empty without clips."""
    of_k = [
        [r["norm"] for r in rows if r["weights"] == subject.weights and r["k"] == k] for k in range(lags + 1)
    ]
    return [sum(norms) / len(norms) for norms in of_k] if of_k[0] else []
