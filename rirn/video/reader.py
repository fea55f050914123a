"""Read a video file, a folder of images, a pipe or a camera as RGB frames with their time stamps."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rirn.errors import RirnError
from rirn.video.containers import missing_bytes
from rirn.video.cut import ALL, Cut
from rirn.video.files import PIPE, camera_name, check_source
from rirn.video.frames import Frame, VideoInfo
from rirn.video.images import FolderSource
from rirn.video.live import RawSource, open_camera, open_pipe
from rirn.video.losses import Loss
from rirn.video.photos import is_one_picture, refuse_tiles
from rirn.video.source import VideoSource, open_file, too_late


class Reader:
    """Frames of a video file, of a folder of images sorted by the numbers in their names, a pipe or a camera.

    Opening decodes the first frame, so ``info`` is exact and a source without a picture is refused before
    any work starts. Iterate over the reader once for its frames. The stored orientation is kept:
    ``info.display_matrix`` says how a player turns it. Samples of more than 8 bits come as uint16.

    Args:
        path: any file FFmpeg reads; a folder with images of one size (png, jpg, tif, bmp, ppm, webp); "-" for
            the standard input (y4m, or any container that can be read without seeking); a camera as
            "camera:NAME" or "/dev/videoN".
        rate: frames per second of a folder of images or of raw frames; a video has its own time stamps.
        raw_size: (width, height) of raw frames on the standard input, 8-bit RGB without a header.
        cut: the part to read, whose first frame gets the time 0; by default all.
        deinterlace: fill in the lines of interlaced pictures.
        spool: where to copy a pipe with sound or subtitles, so that they can be read again; removed by ``close``.

    Raises:
        RirnError: there is nothing to read: missing, unreadable, no video inside, no images, images of different
            sizes; or a rate is needed and not between 1/1000 and 1000.
        BrokenStream: while iterating, after all good frames: the input is cut short or partly damaged.

    Example:
        >>> with Reader("clip.mp4") as reader:
        ...     for frame in reader:
        ...         print(frame.rgb.shape, frame.rgb.dtype, frame.pts * frame.time_base, "s")
        (48, 64, 3) uint8 0 s
        (48, 64, 3) uint8 1/25 s
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        rate: Fraction | int = 25,
        raw_size: tuple[int, int] | None = None,
        cut: Cut = ALL,
        spool: Path | None = None,
        deinterlace: bool = False,
    ):
        name = os.fspath(path)
        check_source(name)
        self.path = Path(path)
        self.is_camera = camera_name(name) is not None
        is_pipe = name == PIPE or self.path.is_fifo()
        self.can_rewind = not self.is_camera and not is_pipe
        self.companions_path: Path | None = None
        if raw_size is not None and name != PIPE:
            raise RirnError(f"A raw size is for frames on the standard input, given as -, not for {name}")
        if self.is_camera:
            self._source = VideoSource(name, open_camera(name), cut=cut, deinterlace=deinterlace)
        elif raw_size is not None:
            self._source = RawSource(raw_size, rate)
        elif is_pipe:
            container, self.companions_path = open_pipe(name, spool)
            title = "standard input" if name == PIPE else name
            self._source = VideoSource(title, container, 0, cut, self.companions_path, deinterlace)
        elif self.path.is_dir() or is_one_picture(self.path):
            self._source = FolderSource(self.path, rate)
        else:
            refuse_tiles(self.path)
            self.companions_path = self.path
            self._source = VideoSource(
                name, open_file(self.path), missing_bytes(name), cut, self.path, deinterlace
            )
        self._cut = cut
        self.info: VideoInfo = self._source.info

    @property
    def begin(self) -> Fraction:
        """When the first frame is shown in the source, in seconds."""
        return self._source.begin if isinstance(self._source, VideoSource) else self._cut.start

    @property
    def not_kept(self) -> list[Loss]:
        """What no output keeps of the pictures."""
        return list(getattr(self._source, "not_kept", []))

    @property
    def others(self) -> list[str]:
        """What there is besides the pictures, in a few words each."""
        return self._source.others() if isinstance(self._source, VideoSource) else []

    @property
    def has_other_streams(self) -> bool:
        """Whether the source is a container whose sound, subtitles and tags can be read again."""
        return self.companions_path is not None

    @property
    def stream_index(self) -> int | None:
        """Index of the stream of the frames in the container; None if there is none."""
        return self._source.stream_index if isinstance(self._source, VideoSource) else None

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        """Yield the frames from number ``skip`` on; those before are decoded too, which finds it reliably."""
        if isinstance(self._source, VideoSource):
            return self._source.frames(skip)
        return self._part(skip)

    def _part(self, skip: int) -> Iterator[Frame]:
        """Yield the frames within the cut, of a source that numbers them evenly from 0."""
        if self._cut.is_all:
            yield from self._source.frames(skip)
            return
        first = math.ceil(self._cut.start * self.info.rate)
        count = skip
        for frame in self._source.frames(first + skip):
            if self._cut.is_over(frame.pts * frame.time_base, count):
                return
            count += 1
            yield replace(frame, pts=frame.pts - first)
            if count == self._cut.frames:
                return
        if not count:
            raise too_late(str(self.path), self._cut)

    def close(self) -> None:
        """Close the source; harmless if already closed."""
        self._source.close()
        if self.companions_path is not None and self.companions_path != self.path:
            self.companions_path.unlink(missing_ok=True)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()
