"""Small data sets in the layouts of the public ones."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_frames(folder: Path, names, size=(8, 6)):
    """Images of one grey per frame, (width, height) in pixels, in the format of their names."""
    folder.mkdir(parents=True)
    for value, name in enumerate(names):
        Image.fromarray(np.full((size[1], size[0], 3), value % 256, np.uint8)).save(folder / name)


def gopro(root: Path, sequences, frames=2, first=47, halves=("blur", "blur_gamma", "sharp"), size=(8, 6)):
    """``sequences``: paths such as ``train/GOPR0372_07_00``."""
    for name in sequences:
        for half in halves:
            write_frames(root / name / half, [f"{first + i:06d}.png" for i in range(frames)], size)


def reds(root: Path, split, names, frames=100):
    for kind in ("sharp", "blur", "blur_bicubic", "sharp_bicubic", "blur_comp"):
        for name in names:
            write_frames(root / split / f"{split}_{kind}" / name, [f"{i:08d}.png" for i in range(frames)])


def dvd(root: Path, sizes, first=0):
    """``sizes``: (width, height) by the path of the video."""
    for name, size in sizes.items():
        for half in ("input", "GT"):
            write_frames(root / name / half, [f"{first + i:05d}.jpg" for i in range(2)], size)


def bsd(root: Path, sequences, frames=2):
    for name in sequences:
        for half in ("Blur", "Sharp"):
            write_frames(root / name / half / "RGB", [f"{i:08d}.png" for i in range(frames)])
            (root / name / half / "RAW").mkdir()
