"""Image files as arrays."""

from __future__ import annotations

import re
from pathlib import Path

from rirn.errors import RirnError
from rirn.files import replacing
from rirn.lazy import Later

np = Later("numpy")
Image, ImageOps = Later("PIL.Image"), Later("PIL.ImageOps")

ORIENTATION = 0x0112
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".ppm", ".webp")


def _failures() -> tuple[type[Exception], ...]:
    """What Pillow raises for a file that is not an image, or is damaged."""
    return OSError, SyntaxError, ValueError, LookupError, Image.DecompressionBombError


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder, ordered by the numbers in their names: frame2 before frame10, however padded."""
    files = (
        f for f in Path(folder).iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")
    )
    return sorted(files, key=_numeric_key)


def _numeric_key(file: Path) -> tuple:
    parts = re.split(r"([0-9]+)", file.stem)
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)], file.name


def image_size(file: str | Path) -> tuple[int, int]:
    """Return (width, height) in pixels after the EXIF orientation, from the header alone.

    Raises:
        RirnError: the file is missing or not an image.
    """
    try:
        with Image.open(file) as image:
            # Some versions of Pillow state the upright size of a TIFF.
            is_tiff = image.format == "TIFF"
            width, height = (image.tag_v2[tag] for tag in (256, 257)) if is_tiff else image.size
            # EXIF orientations 5 to 8 swap the axes.
            return (height, width) if _orientation(image) >= 5 else (width, height)
    except _failures() as error:
        raise _unreadable(file, error) from error


def read_image(file: str | Path) -> np.ndarray:
    """Read an image as uint8 RGB [H, W, 3], turned upright by its EXIF orientation; transparency is dropped.

    Raises:
        RirnError: the file is missing, not an image, or has 32 bits per sample.
    """
    try:
        # Not by name: Pillow would memory-map a TIFF that has to be turned, and misread the rows of RGBA.
        with open(file, "rb") as opened, Image.open(opened) as image:
            if _orientation(image) != 1:
                image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                # Pillow clips 16-bit grey at 255 instead of scaling it.
                grey = (np.asarray(image).astype(np.uint32) + 128) // 257
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
            if image.mode in ("F", "I"):
                raise RirnError(f"{file} holds {image.mode}-type samples (32 bit); save it with 8 or 16 bits")
            return np.array(image.convert("RGB"))
    except _failures() as error:
        raise _unreadable(file, error) from error


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8."""
    # Pillow would decode a whole PNG to look for EXIF data after the pixels.
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    value = image.getexif().get(ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _unreadable(file: str | Path, error: Exception) -> RirnError:
    if type(error).__name__ == "UnidentifiedImageError":
        # Pillow's words name the path a second time, or an object in memory.
        reason = "it is of no known format"
    else:
        reason = (str(error) or type(error).__name__).split("\n")[0].replace(repr(str(file)), "the file")
    reason = reason.rstrip(".")
    return RirnError(f"{file} is not an image that can be read ({reason}); replace or remove it")


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 RGB [H, W, 3] as a PNG, whole or not at all."""
    with replacing(Path(path)) as partial:
        Image.fromarray(image).save(partial, format="PNG")
