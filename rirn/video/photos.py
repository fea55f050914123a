"""Single photos: read by Pillow, written in a format of images with what the file said about them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from PIL import Image

from rirn.data.images import IMAGE_SUFFIXES
from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.files import is_photo, part_name, write_failures
from rirn.video.frames import Frame
from rirn.video.images import to_8_bits

log = logging.getLogger("rirn.video")

# Pillow's names of the formats by suffix, and options that lose next to nothing.
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}
_OPTIONS = {
    "PNG": {"compress_level": 3},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"quality": 95},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 90},
}
_WITH_ALPHA = {"PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA"}
_ORIENTATION = 0x0112
# Description, make, model, software, date, artist, copyright; the directories of EXIF and GPS.
_DESCRIPTIVE = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298}
_DIRECTORIES = {0x8769, 0x8825}
# What the first bytes of HEIC, HEIF and AVIF name.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}


def is_one_picture(path: Path) -> bool:
    """Whether Pillow reads a file, and finds one picture in it."""
    if not is_photo(path):
        return False
    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1 or image.format in ("MPO", "TIFF")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return path.suffix.lower() in IMAGE_SUFFIXES and not _is_animation(path)


def _is_animation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"ANIM" in file.read(64)
    except OSError:
        return False


def refuse_tiles(path: str | os.PathLike) -> None:
    """Raise RirnError for a photo in tiles, of which FFmpeg would hand over one."""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:] not in _BRANDS:
        return
    with av.open(f"file:{path}") as container:
        count = len(container.streams.video)
    if count > 1:
        raise RirnError(
            f"{path} is a photo in {count} tiles, of which only one would be read; make a JPEG of it first, with "
            "heif-convert or any viewer"
        )


class PhotoOutput:
    """One restored photo in the format of its name.

    EXIF data, colour profile and resolution are those of ``source``, but the orientation, since the picture is
    upright; so is its transparency, where the format has one.

    Args:
        target: the file; it appears when it is whole.
        source: the photo that was restored; None takes nothing from it.
    """

    def __init__(self, target: Path, source: Path | None):
        self.frames = 0
        self.problems: list[str] = []
        self.keeps_alpha = True  # where the format has any
        self._target, self._source = target, source
        suffix = target.suffix.lower().lstrip(".")
        self._format = _FORMATS.get(suffix, suffix.upper())
        self._options = _OPTIONS.get(self._format, {})

    def write(self, frame: Frame) -> None:
        """Save the photo."""
        if self.frames:
            raise RirnError(f"{self._target} is one image, and the input has more; give a folder or a video")
        image = Image.fromarray(to_8_bits(frame.rgb))
        part = part_name(self._target)
        try:
            with write_failures(self._target):
                facts = self._facts(image) if self._source is not None else {}
                image.save(part, format=self._format, **self._options, **facts)
                os.replace(part, self._target)
        finally:
            part.unlink(missing_ok=True)
        self.frames += 1

    def _facts(self, image: Image.Image) -> dict:
        with Image.open(self._source) as original:
            exif = original.getexif()
            exif.pop(_ORIENTATION, None)
            if "TIFF" in (original.format, self._format):
                exif = _about_the_picture(exif)
            kept = {name: original.info[name] for name in ("icc_profile", "dpi") if original.info.get(name)}
            if self._format in ("BMP", "PPM", "TGA"):
                kept = {}
            elif len(exif) and self._format != "JPEG2000":
                kept["exif"] = exif.tobytes() if self._format != "TIFF" else exif
            has_alpha = "A" in original.getbands() or "transparency" in original.info
            if has_alpha and self._format in _WITH_ALPHA and original.size == image.size:
                image.putalpha(original.convert("RGBA").getchannel("A"))
        return kept

    def border(self, checkpoint: dict) -> None:
        """One frame is not continued; nothing is kept."""

    def complete(self) -> None:
        """The photo is there already."""

    def stop(self) -> None:
        """The photo is there already, or never will be."""

    def fail(self) -> None:
        """Nothing is half-written."""


def _about_the_picture(exif: Image.Exif) -> Image.Exif:
    """The tags of a TIFF without those about how its samples are stored."""
    kept = Image.Exif()
    for tag in _DESCRIPTIVE & set(exif):
        kept[tag] = exif[tag]
    if _DIRECTORIES & set(exif):
        log.warning(
            "Of the EXIF data of a TIFF, make, model, date and texts are kept, exposure and place are not."
        )
    return kept
