"""Single photos: read by Pillow, and written in an image format with the metadata of the original."""

from __future__ import annotations

import logging
import os
import struct
from pathlib import Path

from PIL import Image, ImageOps

from rirn.data.images import IMAGE_SUFFIXES, ORIENTATION
from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.files import is_photo, part_name, write_failures
from rirn.video.frames import Frame
from rirn.video.images import to_8_bits

log = logging.getLogger("rirn.video")

# Pillow's names of the formats by suffix, and options that lose almost nothing.
_FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "jpe": "JPEG", "jfif": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}
_OPTIONS = {
    "PNG": {"compress_level": 3},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"quality": 95},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 90},
}
_WITH_ALPHA = {"PNG", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA"}
_XMP = 700
_SPACE = slice(16, 20)
"""Where a colour profile names the space of the samples that it is for."""
# Description, make, model, software, date, artist, copyright; the directories of EXIF and GPS.
_DESCRIPTIVE = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298}
_DIRECTORIES = {0x8769, 0x8825}
# What Pillow raises where EXIF data is damaged, or too long for the format.
_CANNOT_BE_WRITTEN = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    SyntaxError,
    OverflowError,
    struct.error,
)
# What the first bytes of HEIC, HEIF and AVIF name.
_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"}


def is_one_picture(path: Path) -> bool:
    """Whether Pillow can read a file and finds one picture in it."""
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
    """Raise RirnError for a photo in tiles, of which FFmpeg would return only one."""
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

    EXIF data except the orientation (the picture is upright), colour profile and resolution are those of
    ``source``; so is the transparency, if the format supports it.

    Args:
        target: the file; it appears when it is complete.
        source: the photo that was restored; None takes nothing from it.
    """

    def __init__(self, target: Path, source: Path | None):
        self.frames = 0
        self.problems: list[str] = []
        self.left_out: list[str] = []  # of the original, a word or two each
        self.keeps_alpha = True  # where the format has any
        self._target, self._source = target, source
        suffix = target.suffix.lower().lstrip(".")
        self._format = _FORMATS.get(suffix, suffix.upper())
        self._options = _OPTIONS.get(self._format, {})

    def write(self, frame: Frame) -> None:
        """Save the photo."""
        image = Image.fromarray(to_8_bits(frame.rgb))
        part = part_name(self._target)
        try:
            with write_failures(self._target):
                try:
                    facts = self._facts(image) if self._source is not None else {}
                    image.save(part, format=self._format, **self._options, **facts)
                except _CANNOT_BE_WRITTEN as error:
                    self.left_out = [f"what the file says of the picture ({error or type(error).__name__})"]
                    image.save(part, format=self._format, **self._options)
                os.replace(part, self._target)
        finally:
            part.unlink(missing_ok=True)
        self.frames += 1

    def _facts(self, image: Image.Image) -> dict:
        """What ``save`` gets from the original; ``left_out`` names what it does not. Transparency goes into the image."""
        kept: dict = {}
        plain = self._format in ("BMP", "PPM", "TGA")
        with open(self._source, "rb") as opened, Image.open(opened) as original:  # as read_image does
            deep = "16" in original.mode or any(";16" in str(tile[3]) for tile in original.tile)
            opaque = _has_alpha(original) and not self._add_alpha(image, original)
            info, exif = original.info, original.getexif()
            exif.pop(ORIENTATION, None)
            if "TIFF" in (original.format, self._format):
                exif = _about_the_picture(exif)
            if info.get("dpi") and not plain:
                kept["dpi"] = info["dpi"]
            profile = info.get("icc_profile")
            # Those of grey and CMYK samples do not fit the RGB that is written.
            if profile and profile[_SPACE] == b"RGB " and not plain:
                kept["icc_profile"] = profile
            if len(exif) and not plain and self._format != "JPEG2000":
                kept["exif"] = exif.tobytes() if self._format != "TIFF" else exif
            texts = [name for name in getattr(original, "text", {}) if "xmp" not in name.lower()]
            there = {
                "transparency": opaque,
                "colour profile": profile and "icc_profile" not in kept,
                "EXIF data": len(exif) and "exif" not in kept,
                "XMP data": any("xmp" in str(name).lower() for name in info)
                or _XMP in getattr(original, "tag_v2", ()),
                "comment": info.get("comment"),
                "texts": texts,
                "16 bits": deep,
            }
            self.left_out += [name for name, is_there in there.items() if is_there]
        return kept

    def _add_alpha(self, image: Image.Image, original: Image.Image) -> bool:
        """Make an image as transparent as the original; return False if the format cannot be."""
        if self._format not in _WITH_ALPHA:
            return False
        image.putalpha(ImageOps.exif_transpose(original.convert("RGBA")).getchannel("A"))
        return True

    def border(self, checkpoint: dict) -> None:
        """Do nothing: a single frame is not resumed."""

    def complete(self) -> None:
        """Do nothing: the photo is already written."""

    def stop(self) -> None:
        """The photo is there already, or never will be."""

    def fail(self) -> None:
        """Nothing is half-written."""


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


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
