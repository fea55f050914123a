"""Folders of blurry and sharp frames."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from rirn.data.images import list_images, read_image, write_png
from rirn.errors import RirnError

BLURRY_FOLDERS = ("blur_gamma", "blur", "Blur", "input")
"""Names of the folder of blurry frames, the first that exists counts: GOPRO asks for blur_gamma where both are there."""
SHARP_FOLDERS = ("sharp", "Sharp", "GT")


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One video: equally many blurry and sharp frames, paired by the stem of the file name."""

    name: str
    blurry: tuple[Path, ...]
    sharp: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.blurry)


def find_sequences(root: str | Path) -> list[Sequence]:
    """All sequences below a folder: every folder that holds ``sharp`` beside ``blur_gamma`` or ``blur`` is one.

    The layout of GOPRO (``train/GOPR0372_07_00/{blur_gamma,sharp}/000047.png``), of DVD (``input`` and ``GT``) and any folder
    with ``blur/`` and ``sharp/`` are of this kind.

    Raises:
        RirnError: no such folder, no sequence in it, or frames without a partner.
    """
    root = Path(root)
    if not root.is_dir():
        raise RirnError(f"there is no folder {root}")
    found = []
    for folder in sorted({p.parent for name in SHARP_FOLDERS for p in root.rglob(name) if p.is_dir()}):
        blurry = next((folder / n for n in BLURRY_FOLDERS if (folder / n).is_dir()), None)
        sharp = next(folder / n for n in SHARP_FOLDERS if (folder / n).is_dir())
        if blurry is not None:
            name = root.name if folder == root else str(folder.relative_to(root))
            found.append(_pair(name, list_images(blurry), list_images(sharp), folder))
    if not found:
        raise RirnError(f"{root} has no sequence: no folder in it holds blur_gamma/ or blur/ beside sharp/")
    return found


def _pair(name: str, blurry: list[Path], sharp: list[Path], folder: Path) -> Sequence:
    alone = sorted({p.stem for p in blurry} ^ {p.stem for p in sharp})
    if alone:
        raise RirnError(
            f"{folder}: {len(alone)} frames are only among the blurry or only among the sharp ones, first {alone[0]!r}"
        )
    if not blurry:
        raise RirnError(f"{folder}: the folders of blurry and sharp frames hold no images")
    return Sequence(name, tuple(blurry), tuple(sharp))


def write_sequence(folder: str | Path, pairs) -> int:
    """Write pairs (blurry, sharp) of uint8 [H, W, 3] frames as ``blur/NNNNNN.png`` and ``sharp/NNNNNN.png``; returns how many."""
    folder = Path(folder)
    for name in ("blur", "sharp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    count = 0
    for count, (blurry, sharp) in enumerate(pairs, 1):
        write_png(folder / "blur" / f"{count - 1:06d}.png", blurry)
        write_png(folder / "sharp" / f"{count - 1:06d}.png", sharp)
    return count


class FrameCache:
    """Decoded frames, kept while they fit into a limit; what does not fit is read again each time."""

    def __init__(self, limit_bytes: int):
        self._limit = limit_bytes
        self._used = 0
        self._frames: dict[Path, np.ndarray] = {}

    def read(self, path: Path) -> np.ndarray:
        """The image as uint8 [H, W, 3]; do not write to it."""
        frame = self._frames.get(path)
        if frame is None:
            frame = read_image(path)
            if self._used + frame.nbytes <= self._limit:
                self._used += frame.nbytes
                self._frames[path] = frame
        return frame
