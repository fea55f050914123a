"""Figure 3: what h_{t-1} and h~_{t-1} hold, and how much they help where the previous frame was restored badly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.evaluation.metrics import psnr, to_uint8
from rirn.figures.canvas import save, show_images, write_csv
from rirn.figures.subjects import Clip, Step, Subject, nearest, require_steps, walk
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State

BLOCK = 16
"""Side, in pixels, of the blocks over which errors are compared."""
BINS = 10
"""Number of equally large groups of blocks, by the error of the previous frame."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """Mean squared errors of one frame, over pixels and colours in blocks: [H / 16, W / 16] each."""

    previous: Tensor
    """Error of the previous restored frame."""
    intact: Tensor
    without_hidden: Tensor
    """With h_{t-1} zeroed for this frame only."""
    without_inner: Tensor
    """With h~_{t-1} zeroed for this frame only."""


def without_hidden(state: State) -> State:
    """Return the state with zeros for h; an LSTM keeps its c, STFAN its images."""
    return dataclasses.replace(state, base=(torch.zeros_like(state.base[0]), *state.base[1:]))


def without_inner(state: State) -> State:
    """Return the state with zeros for h~."""
    return dataclasses.replace(state, inner=torch.zeros_like(state.inner))


def ablate(model: VideoDeblurrer, clip: Clip) -> Iterator[tuple[Step, Tensor, Ablation, dict[str, float]]]:
    """Yield, for every frame but the first: its step, the error map [H, W] of the previous frame, block errors, and PSNR."""
    device = next(model.parameters()).device
    truths: list[Tensor] = []

    def blurry() -> Iterator[Tensor]:
        for frame, truth in clip.tensors(device):
            truths.append(truth)
            yield frame

    last: Tensor | None = None
    for step in walk(model, blurry()):
        truth = truths[step.number]
        if last is not None:
            images = {"intact": step.image}
            for change in (without_hidden, without_inner):
                with torch.inference_mode():
                    images[change.__name__] = model.step(step.frame[None], change(step.before))[0][0]
            errors = {name: _in_blocks(_squares(image, truth)) for name, image in images.items()}
            target = to_uint8(truth)
            figures = {name: psnr(to_uint8(image), target) for name, image in images.items()}
            before = truths[step.number - 1]
            figures["previous"] = psnr(to_uint8(last), to_uint8(before))
            error_map = _squares(last, before)
            yield step, error_map.sqrt(), Ablation(_in_blocks(error_map), **errors), figures
        last = step.image


def _squares(image: Tensor, truth: Tensor) -> Tensor:
    """Squared error [H, W], mean over colours."""
    return (image.clamp(0, 1) - truth).square().mean(0)


def _in_blocks(squares: Tensor) -> Tensor:
    side = min(BLOCK, *squares.shape)
    return F.avg_pool2d(squares[None], side)[0]


def by_previous_error(ablations: list[Ablation]) -> list[dict[str, float]]:
    """Return the PSNR lost without either state, in dB, for groups of blocks from the best restored before to the worst."""
    columns = {
        f.name: torch.cat([getattr(a, f.name).flatten() for a in ablations]).double()
        for f in dataclasses.fields(Ablation)
    }
    rows = []
    for i, chosen in enumerate(columns["previous"].argsort().tensor_split(BINS)):
        if not len(chosen):
            continue
        means = {name: values[chosen].mean().item() for name, values in columns.items()}
        rows.append(
            {
                "group": i,
                "blocks": len(chosen),
                "previous_rmse": means["previous"] ** 0.5,
                "rmse": means["intact"] ** 0.5,
                "loss_without_hidden_dB": _loss(means["intact"], means["without_hidden"]),
                "loss_without_inner_dB": _loss(means["intact"], means["without_inner"]),
            }
        )
    return rows


def _loss(intact: float, without: float) -> float:
    """PSNR lost in dB; NaN if either error is zero."""
    return 10 * float(np.log10(without / intact)) if intact and without else float("nan")


def draw(
    plt: Any, subjects: list[Subject], clips: list[Clip], out: Path, shown: int | None
) -> tuple[list[Path], list[str]]:
    """Write ``fig3-<model>.png``, ``fig3-frames.csv`` and ``fig3-blocks.csv``; return their paths and summary lines.

    ``shown`` is the frame of the first clip whose maps are drawn, by default the middle one.
    """
    paths, lines, of_frames, of_blocks = [], [], [], []
    for subject in subjects:
        ablations, frames, pictures = [], [], []
        for number, clip in enumerate(clips):
            for step, error_map, ablation, figures in ablate(subject.model, clip):
                ablations.append(ablation)
                frames.append(
                    {
                        "model": subject.label,
                        "weights": subject.weights,
                        "clip": clip.name,
                        "frame": step.number,
                        "previous_psnr_dB": figures["previous"],
                        "psnr_dB": figures["intact"],
                        "loss_without_hidden_dB": figures["intact"] - figures["without_hidden"],
                        "loss_without_inner_dB": figures["intact"] - figures["without_inner"],
                    }
                )
                if number == 0:
                    maps = [t[0].abs().mean(0).cpu() for t in (step.before.base[0], step.before.inner)]
                    pictures.append((step.number, [error_map.cpu(), *maps]))
        require_steps(subject, len(pictures))
        groups = by_previous_error(ablations)
        picture = nearest(pictures, shown, pictures[-1][0] + 1 + subject.model.delay)
        paths.append(_draw_subject(plt, subject, clips[0].name, picture, groups, out))
        of_frames += frames
        of_blocks += [{"model": subject.label, "weights": subject.weights, **row} for row in groups]
        means = [np.mean([f[f"loss_without_{name}_dB"] for f in frames]) for name in ("hidden", "inner")]
        lines.append(
            f"{subject.label}: without h {means[0]:+.3f} dB and without h~ {means[1]:+.3f} dB lost, mean of {len(frames)} frames"
        )
    paths += [write_csv(out / "fig3-frames.csv", of_frames), write_csv(out / "fig3-blocks.csv", of_blocks)]
    return paths, lines


def _draw_subject(
    plt: Any,
    subject: Subject,
    clip: str,
    picture: tuple[int, list[Tensor]],
    groups: list[dict[str, float]],
    out: Path,
) -> Path:
    number, maps = picture
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), layout="constrained", width_ratios=(1, 1, 1, 1.1))
    names = (f"error of frame {number - 1}", "mean |h| after it", "mean |h~| after it")
    for place, name, values in zip(axes, names, maps, strict=False):
        drawn = show_images(place, values, name, cmap="inferno", vmin=0, vmax=float(values.quantile(0.995)))
        figure.colorbar(drawn, ax=place, shrink=0.7)
    errors = [row["previous_rmse"] for row in groups]
    for name, label, mark in (("hidden", "h", "o-"), ("inner", "h~", "s-")):
        axes[3].plot(
            errors, [row[f"loss_without_{name}_dB"] for row in groups], mark, label=f"{label} zeroed"
        )
    axes[3].axhline(0, color="black", linewidth=0.8)
    axes[3].set_xlabel("error of the frame before (RMSE, blocks in groups)", fontsize=8)
    axes[3].set_ylabel("PSNR lost, dB", fontsize=8)
    axes[3].legend(fontsize=8)
    figure.suptitle(f"{subject.label}, {clip}", fontsize=9)
    return save(plt, figure, out / f"fig3-{subject.file_name}.png")
