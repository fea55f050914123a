"""Names of files and folders: what can be written where, and names for unfinished files."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rirn.errors import RirnError
from rirn.video import pyav

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_IMAGES_WRITTEN = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".ppm", ".webp", ".jp2", ".tga")
)
CAMERA_PREFIX = "camera:"
PIPE = "-"
PARTS = ".resume"
_LONGEST_NAME = 255
"""Most bytes in a file name on common file systems, where the system does not say."""


def is_photo(path: str | os.PathLike) -> bool:
    """Whether a name is that of a single image."""
    suffix = Path(path).suffix.lower()
    return suffix in _IMAGES_WRITTEN or (suffix == ".avif" and _writes_avif())


@functools.cache
def _writes_avif() -> bool:
    from PIL import features  # takes time that most commands need not spend

    return bool(features.check("avif"))


def camera_name(source: str) -> str | None:
    """Return the device of a camera source, "camera:NAME" or "/dev/videoN", else None."""
    if source.startswith(CAMERA_PREFIX):
        return source.removeprefix(CAMERA_PREFIX)
    return source if source.startswith("/dev/video") else None


def check_source(source: str | os.PathLike) -> None:
    """Raise RirnError if there is nothing to read at ``source``; fast, and opens nothing."""
    name = os.fspath(source)
    if name == PIPE or camera_name(name) is not None:
        return
    if not os.path.exists(name):
        hint = ", and addresses are not read: download it first" if "://" in name else ""
        raise RirnError(f"{name} does not exist{hint}; give a video file or a folder of images")
    if not os.access(name, os.R_OK):
        raise RirnError(f"{name} cannot be read; check its permissions")


def check_target(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Raise RirnError if ``target`` cannot be written or is the input; fast, and touches nothing.

    A name that ends in .mp4, .m4v, .mov or .mkv is a video: an existing regular file is replaced once the new
    one is complete. An existing folder, or a name without a suffix or with a trailing slash, is a folder of
    images, which must be empty if it exists, unless an interrupted run left its first images there. A single
    photo may also become an image file. "-" is the standard output.
    """
    if os.fspath(target) == PIPE:
        return
    if not os.fspath(target):
        raise RirnError("The target has no name; give a video file or a folder for PNG images")
    path = Path(os.path.realpath(target))
    size, most = len(os.fsencode(path.name)), _longest_name(path.parent)
    if size > most:
        raise RirnError(
            f"The name {path.name[:30]}... has {size} bytes, and this file system takes {most}; give a shorter one"
        )
    if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
        raise RirnError(f"The output {target} is the input itself; give another name")
    if not path.parent.is_dir():
        raise RirnError(
            f"The folder {path.parent} does not exist; create it or choose another place for {path.name}"
        )
    if is_image_folder(target):
        if path.exists() and not path.is_dir():
            raise RirnError(f"{target} exists and is no folder; choose another name for the images")
        if path.is_dir() and any(path.iterdir()) and not parts_folder(path).exists():
            raise RirnError(f"The folder {target} is not empty; empty it or choose another for the images")
    elif is_photo(path) and is_photo(source):
        if path.exists() and not path.is_file():
            raise RirnError(f"{target} exists and is no regular file; choose another name")
    elif path.suffix.lower() not in FORMATS:
        raise RirnError(
            f"{target} ends in '{path.suffix}', which is no format that can be written; "
            f"use {', '.join(FORMATS)}, or a name without a suffix for a folder of PNG images"
        )
    elif path.exists() and not path.is_file():
        raise RirnError(f"{target} exists and is no regular file; choose another name")
    # The parts of the result grow beside it.
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise RirnError(f"The folder {path.parent} is not writable; choose another place for {path.name}")


def is_image_folder(target: str | os.PathLike) -> bool:
    """Whether ``target`` names a folder of images rather than a video file."""
    text = os.fspath(target)
    return text.endswith((os.sep, "/")) or os.path.isdir(text) or not Path(text).suffix


def keep_times(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Give a file made from another one its access and modification times, by which photos are sorted."""
    if os.path.isfile(source) and os.path.isfile(target):
        about = os.stat(source)
        with write_failures(os.fspath(target)):
            os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def parts_folder(target: Path) -> Path:
    """The folder where the parts of ``target`` grow and wait to be resumed."""
    return target.with_name(_fitting(target, "", PARTS))


def part_name(path: Path) -> Path:
    """Return a hidden name in the folder of ``path`` that nothing else uses."""
    return path.with_name(_fitting(path, ".", f".{secrets.token_hex(4)}.part"))


def free_name(path: Path) -> Path:
    """Return ``path``, or a similar name that is free."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(_fitting(path.with_suffix(""), "", f"-{number}{path.suffix}"))
    return free


def _fitting(path: Path, before: str, after: str) -> str:
    """The name of ``path`` with a prefix and suffix; a long one is truncated, and made unique by a digest."""
    name = os.fsencode(path.name)
    room = _longest_name(path.parent) - len(before.encode()) - len(after.encode())
    if len(name) <= room:
        return f"{before}{path.name}{after}"
    digest = hashlib.sha256(name).hexdigest()[:8]
    cut = name[: max(1, room - len(digest) - 1)].decode("utf-8", "ignore")
    return f"{before}{cut}~{digest}{after}"


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; a folder that is not there
        return _LONGEST_NAME


@contextmanager
def write_failures(path: Path | str) -> Iterator[None]:
    """Turn errors of FFmpeg and the system into one sentence about ``path``."""
    try:
        yield
    except (*pyav.failures(), OSError) as error:
        raise RirnError(f"Cannot write {path}: {error.strerror or error}") from error
