"""Figures 5 and 7 to 10: the same crop of the input, each model's output, and the truth."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from rirn.errors import RirnError
from rirn.evaluation.metrics import laplacian_variance, psnr, to_uint8
from rirn.figures.canvas import save, show_images, write_csv
from rirn.figures.subjects import Clip, Subject, restored, to_tensor

NAMES = ("5", "7", "8", "9", "10")
"""In the paper, the same figure on different data, which the user provides."""
ROWS = 4
"""Maximum number of clips in one picture."""
MEASURES = {"crop_psnr_dB": "PSNR in dB", "crop_sharpness": "variance of the Laplacian"}
"""The measure of a crop, with and without truth."""


@dataclasses.dataclass(frozen=True)
class Crop:
    """A part of a frame, in pixels."""

    width: int
    height: int
    left: int
    top: int

    @classmethod
    def parse(cls, text: str) -> Crop:
        """Parse ``WxH+X+Y``.

        Raises:
            RirnError: the text does not have that form.
        """
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)\+(\d+)\+(\d+)", text)
        if match is None:
            raise RirnError(f"--crop must be of the form WxH+X+Y, such as 160x120+300+80, not {text!r}")
        return cls(*map(int, match.groups()))

    def of(self, image: np.ndarray) -> np.ndarray:
        """Cut the part out of [H, W, 3].

        Raises:
            RirnError: it reaches outside.
        """
        part = image[self.top : self.top + self.height, self.left : self.left + self.width]
        if part.shape[:2] != (self.height, self.width):
            raise RirnError(
                f"--crop {self.width}x{self.height}+{self.left}+{self.top} reaches out of frames of "
                f"{image.shape[1]}x{image.shape[0]}"
            )
        return part


def telling_crop(blurry: np.ndarray, truth: np.ndarray | None) -> Crop:
    """Return the crop, a third of each side, where the input is farthest from the truth or, without a truth, varies most from
    pixel to pixel."""
    if truth is not None:
        amount = ((blurry.astype(np.float64) - truth) ** 2).sum(2)
    else:
        luma = blurry.astype(np.float64).sum(2)
        amount = np.zeros_like(luma)
        amount[1:, 1:] = (luma[1:, 1:] - luma[:-1, 1:]) ** 2 + (luma[1:, 1:] - luma[1:, :-1]) ** 2
    height, width = (max(1, side // 3) for side in amount.shape)
    sums = np.pad(amount, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    top, left = np.unravel_index(inside.argmax(), inside.shape)
    return Crop(width, height, int(left), int(top))


def draw(
    plt: Any,
    subjects: list[Subject],
    clips: list[Clip],
    out: Path,
    shown: int | None,
    crop: Crop | None,
    name: str = "5",
) -> tuple[list[Path], list[str]]:
    """Write ``fig5.png`` and ``fig5.csv``, or those of another ``name``; return their paths and summary lines.

    Every clip is a row, at most four. ``shown`` is the frame, by default the middle one of each clip.
    """
    cropped = [_crops(clip, subjects, shown, crop) for clip in clips[:ROWS]]
    rows, tables = [images for images, _ in cropped], [table for _, table in cropped]
    measure = "crop_psnr_dB" if "crop_psnr_dB" in tables[0][0] else "crop_sharpness"
    columns = list(dict.fromkeys(label for row in rows for label in row))
    height, width, _ = rows[0]["input"].shape
    figure, axes = plt.subplots(
        len(rows),
        len(columns),
        figsize=(2.6 * len(columns), (2.6 * height / width + 0.3) * len(rows)),
        layout="constrained",
        squeeze=False,
    )
    for places, row, table in zip(axes, rows, tables, strict=True):
        figures = {r["model"]: r[measure] for r in table}
        for place, label in zip(places, columns, strict=True):
            title = label
            if label in figures:
                title += f", {figures[label]:.2f} {'dB' if 'dB' in measure else ''}"
            show_images(place, row[label], title, interpolation="nearest")
    whole = [row for table in tables for row in table]
    lines = []
    for label in ("input", *(s.label for s in subjects)):
        values = ", ".join(f"{r[measure]:.2f}" for r in whole if r["model"] == label)
        lines.append(f"{label}: {MEASURES[measure]} of the crop {values}")
    return [save(plt, figure, out / f"fig{name}.png"), write_csv(out / f"fig{name}.csv", whole)], lines


def _crops(
    clip: Clip, subjects: list[Subject], shown: int | None, crop: Crop | None
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    """Return the crops of one clip by label, and a table row for the input and each model."""
    pairs = list(clip.read())
    number = len(pairs) // 2 if shown is None else shown
    if not 0 <= number < len(pairs):
        raise RirnError(f"--frame {number} is not among the {len(pairs)} frames of {clip.name}")
    blurry, truth = pairs[number]
    images = {"input": blurry} | {s.label: _restored(s, clip, pairs, number) for s in subjects}
    weights = {"input": ""} | {s.label: s.weights for s in subjects}
    part, table = crop or telling_crop(blurry, truth), []
    for label, image in images.items():
        row = {"model": label, "weights": weights[label], "clip": clip.name, "frame": number}
        row |= {"left": part.left, "top": part.top, "width": part.width, "height": part.height}
        if truth is not None:
            row |= {"crop_psnr_dB": psnr(part.of(image), part.of(truth)), "psnr_dB": psnr(image, truth)}
        else:
            row |= {
                "crop_sharpness": laplacian_variance(part.of(image)),
                "sharpness": laplacian_variance(image),
            }
        table.append(row)
    if truth is not None:
        images["truth"] = truth
    return {label: part.of(image) for label, image in images.items()}, table


def _restored(subject: Subject, clip: Clip, pairs: list[tuple[Any, Any]], number: int) -> np.ndarray:
    """Return frame ``number`` of a clip as restored by the model, uint8 [H, W, 3]."""
    device = next(subject.model.parameters()).device
    frames = [to_tensor(image, device) for image, _ in pairs[: number + 1 + subject.model.delay]]
    found = restored(subject.model, frames)
    if number not in found:
        raise RirnError(
            f"{subject.label} returns no image for frame {number} of {clip.name}; give another --frame"
        )
    return to_uint8(found[number])
