"""Sources and targets that cannot be read twice: pipes and cameras."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.colour import ToPicture
from rirn.video.files import PIPE, camera_name, write_failures
from rirn.video.frames import MATRIX_RGB, BrokenStream, Colour, Frame, VideoInfo, checked_rate, checked_size

log = logging.getLogger("rirn.video")

_CAMERA_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
# y4m has tags for these samplings; the reader of a pipe takes the range from XCOLORRANGE.
_Y4M_SAMPLING = {"yuv420p": "420mpeg2", "yuv444p": "444", "yuv420p10le": "420p10", "yuv444p10le": "444p10"}


def open_camera(source: str) -> av.container.InputContainer:
    """Open a camera with the device layer of this platform.

    Raises:
        RirnError: this FFmpeg has no cameras, or there is no such device.
    """
    device = camera_name(source)
    format = _CAMERA_FORMATS.get(sys.platform, "v4l2")
    if format not in av.formats_available:
        raise RirnError(
            f"This PyAV was built without {format}, so it opens no cameras; pipe the camera in: "
            f"ffmpeg -f {format} -i {device} -f yuv4mpegpipe - | rirn deblur - ..."
        )
    try:
        return av.open(f"video={device}" if format == "dshow" else device, format=format)
    except (av.FFmpegError, OSError) as error:
        raise RirnError(f"The camera {device} cannot be opened: {error.strerror or error}") from error


def open_pipe(name: str, spool: Path | None) -> tuple[av.container.InputContainer, Path | None]:
    """Open the video on the standard input, or on a named pipe.

    If it holds more than pictures, or cannot be read from a pipe, all of it is first read into the file ``spool``.

    Args:
        name: "-" or the name of a pipe.
        spool: a file that does not exist yet; None for no copy.

    Returns:
        The container, and ``spool`` if it was written.

    Raises:
        RirnError: nothing came, or nothing that FFmpeg can read.
    """
    title = "the standard input" if name == PIPE else name
    try:
        pipe = sys.stdin.buffer if name == PIPE else open(name, "rb")  # noqa: SIM115 (PyAV reads it to its end)
        if spool is None:
            return av.open(pipe, mode="r", metadata_errors="replace"), None
        with spool.open("xb") as copy:
            tee = _Tee(pipe, copy)
            try:
                container = av.open(tee, mode="r", metadata_errors="replace")
                if all(s.type == "video" for s in container.streams):
                    tee.stop()
                    spool.unlink()
                    return container, None
                what = "has more streams than pictures"
            except (av.FFmpegError, ValueError) as error:
                what = f"cannot be read as it comes ({getattr(error, 'strerror', None) or error})"
            log.warning("%s %s: it is read whole into %s first.", title[0].upper() + title[1:], what, spool)
            with write_failures(spool):
                shutil.copyfileobj(pipe, copy, 1 << 20)
        return av.open(f"file:{spool}", metadata_errors="replace"), spool
    except (av.FFmpegError, OSError) as error:
        if spool is not None:
            spool.unlink(missing_ok=True)
        raise RirnError(
            f"{title[0].upper()}{title[1:]} is not a video that can be read ({error.strerror or error}); give y4m "
            "(ffmpeg ... -f yuv4mpegpipe -), or --raw-size for frames without a header"
        ) from error


class _Tee:
    """A pipe that keeps all that is read from it, until ``stop``."""

    def __init__(self, pipe: BinaryIO, copy: BinaryIO):
        self._pipe, self._copy = pipe, copy

    def read(self, size: int) -> bytes:
        data = self._pipe.read(size)
        if self._copy is not None:
            self._copy.write(data)
        return data

    def stop(self) -> None:
        self._copy = None


class RawSource:
    """8-bit RGB frames on the standard input, one after another without any header."""

    def __init__(self, size: tuple[int, int], rate: Fraction | int):
        width, height = checked_size(size)
        rate = checked_rate(rate)
        self._pipe = sys.stdin.buffer
        self.info = VideoInfo(width, height, 1 / rate, rate)

    def close(self) -> None:
        """The standard input is not ours to close."""

    def frames(self, skip: int) -> Iterator[Frame]:
        shape = (self.info.height, self.info.width, 3)
        index = 0
        while data := self._pipe.read(shape[0] * shape[1] * 3):
            if len(data) < shape[0] * shape[1] * 3:
                raise BrokenStream(
                    f"The standard input ended {len(data)} bytes into frame {index}; check --raw-size "
                    f"({shape[1]}x{shape[0]}, RGB of 8 bits)",
                    index,
                )
            if index >= skip:
                yield Frame(
                    np.frombuffer(data, np.uint8).reshape(shape).copy(), index, self.info.time_base, 1
                )
            index += 1


class PipeOutput:
    """Frames on a pipe: y4m, or raw RGB; each frame leaves as soon as it is restored.

    y4m has one rate and no time stamps: the frames of a video with a variable rate keep only their order and
    number. Raw frames are RGB like the arrays, 8 bits, or 16 (little-endian) from deeper sources.

    Args:
        info: the facts about the frames.
        raw: without any header, instead of y4m.
        pipe: binary file to write to, the standard output by default.
    """

    def __init__(self, info: VideoInfo, *, raw: bool = False, pipe: BinaryIO | None = None):
        self.frames = 0
        self._pipe = pipe if pipe is not None else sys.stdout.buffer
        self._raw, self._upright = raw, info.upright
        info = info.as_shown()  # neither has a flag for it
        sampling = "yuv444p" if info.width % 2 or info.height % 2 else "yuv420p"
        self._pix_fmt = sampling if info.bits <= 8 else f"{sampling}10le"
        colour = info.colour if info.colour.matrix != MATRIX_RGB else Colour()
        self._picture = ToPicture(colour, info.width, info.height, self._pix_fmt)
        self._header = None if raw else _y4m_header(info, self._pix_fmt)

    def write(self, frame: Frame) -> None:
        """Write one frame and flush."""
        with write_failures("the standard output"):
            if self._header:
                self._pipe.write(self._header)
                self._header = None
            rgb = np.ascontiguousarray(self._upright(frame.rgb))
            self._pipe.write(
                rgb.tobytes() if self._raw else b"FRAME\n" + self._picture(rgb).to_ndarray().tobytes()
            )
            self._pipe.flush()
        self.frames += 1

    def border(self, checkpoint: dict) -> None:
        """Do nothing: what went down a pipe cannot be resumed."""

    def complete(self) -> None:
        """Nothing waits: every frame was flushed."""

    def stop(self) -> None:
        """The frames so far are with the reader already."""

    def fail(self) -> None:
        """The frames so far are with the reader already."""


def _y4m_header(info: VideoInfo, pix_fmt: str) -> bytes:
    rate = info.rate.limit_denominator(1_000_000)
    aspect = info.sample_aspect_ratio
    fields = [
        f"W{info.width} H{info.height} F{rate.numerator}:{rate.denominator} Ip",
        f"A{aspect.numerator}:{aspect.denominator}" if aspect else "A0:0",
        f"C{_Y4M_SAMPLING[pix_fmt]}",
        f"XCOLORRANGE={'FULL' if info.colour.resolved_range() == 2 else 'LIMITED'}",
    ]
    return f"YUV4MPEG2 {' '.join(fields)}\n".encode()
