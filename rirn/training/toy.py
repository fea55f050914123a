"""A small data set made on the spot: a camera that shakes in front of invented pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rirn.data.sequences import write_sequence
from rirn.data.synthesis import Shake, shake_photo

SPLITS = {"train": 8, "test": 2}
"""Sequences per split."""
SIZE = (96, 128)
FRAMES = 12


def write_toy_data(folder: Path) -> Path:
    """Write ``folder/{train,test}/<sequence>/{blur,sharp}``, the same pixels each time; what is there already stays."""
    for number, (split, count) in enumerate(SPLITS.items()):
        for i in range(count):
            target = folder / split / f"{i:02d}"
            if len(list((target / "sharp").glob("*.png"))) == FRAMES:
                continue
            rng = np.random.default_rng([number, i])
            shake = Shake(tremor=4, drift=1.5, jerk_rate=0.05, jerk=8)
            write_sequence(
                target, shake_photo(invent_picture(rng), rng, size=SIZE, frames=FRAMES, shake=shake)
            )
    return folder


def invent_picture(rng: np.random.Generator, height: int = 256, width: int = 320) -> np.ndarray:
    """uint8 [height, width, 3]: patches with hard edges and fine stripes, which blur harms, on a smooth ground."""
    rows, columns = np.mgrid[:height, :width]
    corners = rng.integers(0, 256, (2, 2, 3))
    down, right = (rows / (height - 1))[..., None], (columns / (width - 1))[..., None]
    top, bottom = (corners[i, 0] * (1 - right) + corners[i, 1] * right for i in range(2))
    picture = top * (1 - down) + bottom * down
    for _ in range(80):
        y, x, h, w = rng.integers(0, height), rng.integers(0, width), *rng.integers(4, 48, 2)
        box = np.s_[max(0, y - h) : y + h, max(0, x - w) : x + w]
        inside = np.ones_like(rows[box], bool)
        if rng.random() < 0.4:
            inside = ((rows[box] - y) / h) ** 2 + ((columns[box] - x) / w) ** 2 <= 1
        if rng.random() < 0.4:
            slope = rng.normal(size=2)
            inside &= np.sin((rows[box] * slope[0] + columns[box] * slope[1]) * rng.uniform(0.3, 1.5)) > 0
        picture[box][inside] = rng.integers(0, 256, 3)
    return picture.astype(np.uint8)
