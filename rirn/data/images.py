"""Image files as arrays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from rirn.errors import RirnError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


def list_images(folder: str | Path) -> list[Path]:
    """Image files of a folder, numeric stems in numeric order whatever their number of digits, then the others by name."""
    images = (
        p for p in Path(folder).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    )
    return sorted(images, key=lambda p: (0, int(p.stem), p.name) if p.stem.isdecimal() else (1, 0, p.name))


def read_image(path: str | Path) -> np.ndarray:
    """Read an image file as RGB, uint8 [H, W, 3] in 0..255.

    Raises:
        RirnError: the file is missing, or no image that Pillow reads.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise RirnError(f"there is no image {path}") from error
    except (OSError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise RirnError(f"cannot read the image {path}: {error}") from error


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write RGB uint8 [H, W, 3] as a PNG, under a temporary name first so that no half-written file is left."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        Image.fromarray(image).save(partial, format="PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
