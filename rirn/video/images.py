"""Folders of images as the input and the output of a video tool."""

from __future__ import annotations

import logging
import os
import shutil
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from rirn.data.images import IMAGE_SUFFIXES, ORIENTATION, image_size, list_images, read_image
from rirn.errors import RirnError
from rirn.video.files import part_name, write_failures
from rirn.video.frames import BrokenStream, Frame, VideoInfo, checked_rate
from rirn.video.losses import EXIF, Loss

log = logging.getLogger("rirn.video")


def to_8_bits(rgb: np.ndarray) -> np.ndarray:
    """Full-range uint8 or uint16 [H, W, 3] -> uint8, rounded."""
    return rgb if rgb.dtype == np.uint8 else ((rgb.astype(np.uint32) + 128) // 257).astype(np.uint8)


class FolderSource:
    """The images of a folder, or a single one, as frames at ``rate`` frames per second; see ``Reader``."""

    def __init__(self, path: Path, rate: Fraction | int):
        self._path = path
        rate = checked_rate(rate)
        self._files = _images(path) if path.is_dir() else [path]
        sizes = {}
        for file in self._files:
            sizes.setdefault(image_size(file), file)
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            raise RirnError(
                f"The images in {path} differ in size ({first.name} is {a[0]}x{a[1]}, {second.name} is "
                f"{b[0]}x{b[1]}); a clip needs one size, and --photos restores each on its own"
            )
        ((width, height),) = sizes
        self._first: np.ndarray | None = read_image(self._files[0])
        self.info = VideoInfo(width, height, 1 / rate, rate, len(self._files))
        self.not_kept = _not_kept(self._files[0], path.is_dir())

    def close(self) -> None:
        self._first = None

    def frames(self, skip: int) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            if index < skip:
                continue
            if index == 0 and self._first is not None:
                rgb, self._first = self._first, None
            else:
                try:
                    rgb = read_image(file)
                except RirnError as error:
                    raise BrokenStream(f"{error}; the {index} images before it were kept", index) from error
            height, width = rgb.shape[:2]
            if (width, height) != (
                self.info.width,
                self.info.height,
            ):  # as the header of a damaged one does not say
                raise BrokenStream(
                    f"{file} is {width}x{height}, and not {self.info.width}x{self.info.height} as the images before; "
                    f"the {index} images before it were kept",
                    index,
                )
            yield Frame(rgb, index, self.info.time_base, 1, file.stem)


def _not_kept(file: Path, is_clip: bool) -> list[Loss]:
    """What an image has besides its samples: EXIF data except the orientation, and, for a single photo, the pictures
    after the first of a TIFF or of a stereoscopic JPEG."""
    found = []
    try:
        with Image.open(file) as image:
            if set(image.getexif()) - {ORIENTATION}:
                found.append(EXIF)
            count = 0 if is_clip else getattr(image, "n_frames", 1) - 1
        if count:
            found.append(Loss(f"further pictures ({count})", "left out; save each as a file of its own"))
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        log.debug("what %s says of itself is damaged", file)
    return found


def _images(folder: Path) -> list[Path]:
    files = [file for file in list_images(folder) if file.is_file()]  # a link may lead nowhere
    if not files:
        inside = any(p.is_dir() and not p.name.startswith(".") for p in folder.iterdir())
        raise RirnError(
            f"{folder} holds no images ({', '.join(s[1:] for s in IMAGE_SUFFIXES)}) and no videos"
            + (", only folders; add --recursive to look into them" if inside else "")
        )
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other is not file:
            a, b = sorted((other.name, file.name))
            raise RirnError(f"{folder} holds both {a} and {b}; keep one image for each frame")
    return files


class ImageFolderWriter:
    """A new folder of 8-bit RGB PNG images, named after their frames.

    It is filled under a hidden name beside ``target`` and renamed by ``finish``; ``abort`` removes it.

    Args:
        target: folder to write; it must not exist, its parent must.

    Raises:
        RirnError: the folder cannot be created or written.
    """

    def __init__(self, target: Path):
        self.frames = 0
        self._path = target
        self._part = part_name(target)
        with write_failures(target):
            self._part.mkdir()

    def write(self, frame: Frame) -> None:
        """Save one frame, which must have a name; 16 bits are rounded to 8."""
        rgb = to_8_bits(frame.rgb)
        if frame.alpha is not None:
            rgb = np.dstack([rgb, to_8_bits(frame.alpha)])
        with write_failures(self._path):
            # Pillow's default, level 6, took 1.6 to 3 times as long at 720p for at most an eighth of the
            # size.
            Image.fromarray(rgb).save(self._part / f"{frame.name}.png", compress_level=3)
        self.frames += 1

    def finish(self) -> None:
        """Give the folder its final name."""
        with write_failures(self._path):
            self._part.rename(self._path)

    def abort(self) -> None:
        """Remove what was written; harmless after ``finish``."""
        shutil.rmtree(self._part, ignore_errors=True)


def place_images(folders: Sequence[Path], target: Path) -> None:
    """Collect the images of some folders in ``target``; the originals stay in place.

    Nothing is lost if this is interrupted. A new target appears when it is complete. An existing one is kept (it
    may be a mount point or somebody's working directory), and images of the same names in it are replaced.

    Args:
        folders: where the images are, on the same disk.
        target: folder to fill.

    Raises:
        RirnError: the target cannot be written.
    """
    with write_failures(target):
        place = target if target.is_dir() else part_name(target)
        place.mkdir(exist_ok=True)
        try:
            for folder in folders:
                for file in sorted(folder.iterdir()):
                    (place / file.name).unlink(missing_ok=True)
                    _link(file, place / file.name)
            if place != target:
                place.rename(target)
        except BaseException:
            if place != target:
                shutil.rmtree(place, ignore_errors=True)
            raise


def _link(file: Path, other: Path) -> None:
    try:
        os.link(file, other)
    except OSError:  # not every file system has links
        shutil.copyfile(file, other)
