"""Read a video file, a folder of images, a pipe or a camera as RGB frames with their time stamps."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.colour import FromPicture, holds_rgb
from rirn.video.containers import missing_bytes
from rirn.video.files import PIPE
from rirn.video.frames import IMAGE_COLOUR, RANGE_FULL, BrokenStream, Colour, Frame, VideoInfo
from rirn.video.images import FolderSource
from rirn.video.live import RawSource, camera_name, open_camera, open_pipe
from rirn.video.photos import is_one_picture, refuse_tiles
from rirn.video.times import Clock, timed_streams

log = logging.getLogger("rirn.video")

_HIGHEST_RATE = 1000  # frames per second


class Reader:
    """Frames of a video file, of a folder of images sorted by the numbers in their names, a pipe or a camera.

    Opening decodes the first frame, so that `info` is exact and a source without a picture is refused before
    any work starts. Iterate over the reader for its frames, once. The stored orientation is kept:
    `info.display_matrix` says how a player turns it. Samples of more than 8 bits come as uint16.

    Args:
        path: any file FFmpeg reads; a folder with images of one size (png, jpg, tif, bmp, ppm, webp); "-" for
            the standard input (y4m, or any container that can be read without seeking); a camera as
            "camera:NAME" or "/dev/videoN".
        rate: frames per second given to a folder of images or raw frames; a video has its own time stamps.
        raw_size: (width, height) of raw frames on the standard input, RGB of 8 bits, without any header.

    Raises:
        RirnError: nothing to read there: missing, unreadable, no video inside, no images, images of different
            sizes; or the rate that is needed is not between 1/1000 and 1000.
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
    ):
        name = os.fspath(path)
        self.path = Path(path)
        self.is_camera = camera_name(name) is not None
        self.can_rewind = not self.is_camera and name != PIPE
        if raw_size is not None and name != PIPE:
            raise RirnError(f"A raw size is for frames on the standard input, given as -, not for {name}.")
        if self.is_camera:
            self._source = _VideoSource(name, open_camera(name))
        elif name == PIPE:
            self._source = (
                RawSource(raw_size, rate) if raw_size else _VideoSource("standard input", open_pipe())
            )
        elif not os.path.exists(name):
            raise RirnError(f"{name} does not exist{_hint(name)}; give a video file or a folder of images.")
        elif not os.access(name, os.R_OK):
            raise RirnError(f"{self.path} cannot be read; check its permissions.")
        elif self.path.is_fifo():
            raise RirnError(
                f"{name} is a pipe; give - as the source, and the pipe as the standard input: < {name}"
            )
        elif self.path.is_dir() or is_one_picture(self.path):
            self._source = FolderSource(self.path, rate)
        else:
            refuse_tiles(self.path)
            self._source = _VideoSource(name, _open(self.path), missing_bytes(name))
        self.info: VideoInfo = self._source.info

    @property
    def not_kept(self) -> list[str]:
        """What does not come along with the pictures, or of a pipe beside them; a few words each."""
        found = list(getattr(self._source, "not_kept", []))
        if isinstance(self._source, _VideoSource) and not self.can_rewind:
            found += self._source.others()
        return found

    @property
    def has_other_streams(self) -> bool:
        """Whether the source is a container whose sound, subtitles and tags can be read a second time."""
        return self.can_rewind and isinstance(self._source, _VideoSource)

    @property
    def stream_index(self) -> int | None:
        """Index of the stream of the frames in the container; None if there is none."""
        return self._source.stream_index if isinstance(self._source, _VideoSource) else None

    def __iter__(self) -> Iterator[Frame]:
        return self.frames()

    def frames(self, skip: int = 0) -> Iterator[Frame]:
        """Frames from the one with number `skip` on; those before are decoded, which finds it for certain."""
        return self._source.frames(skip)

    def close(self) -> None:
        """Close the source; harmless when it is closed."""
        self._source.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _VideoSource:
    def __init__(self, name: str, container: av.container.InputContainer, missing: int = 0):
        self._name = name
        self._container = container
        try:
            self._stream = _video_stream(self._container, name)
            self.stream_index = self._stream.index
            self._stream.thread_type = "AUTO"
            self._missing = missing
            self._pts: int | None = None
            self._frames = 0
            self._damaged = 0
            self._stop_reason: str | None = None
            self._clock = Clock(self._container)
            self._moved = 0
            decoded = self._decode()
            first = next(decoded, None)
            if first is None:
                if self._container.format.name.startswith("webp"):
                    raise RirnError(
                        f"{name} is an animated WebP, which FFmpeg does not decode; save it as GIF first."
                    )
                raise RirnError(f"{name} holds no frame that can be decoded; check that it plays elsewhere.")
            self._pictures = chain([first], decoded)
            self.info = self._describe(first)
            self.not_kept = _not_kept(first)
            self._rgb = FromPicture(self.info.colour, self.info.bits)
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def others(self) -> list[str]:
        """The streams beside the pictures."""
        return [
            f"the {s.type} stream {s.index} cannot be read a second time and is left out; give a file to keep it"
            for s in self._container.streams
            if s.index != self.stream_index
        ]

    def frames(self, skip: int) -> Iterator[Frame]:
        for picture in self._pictures:
            pts = self._place(picture)
            if self._frames > skip:
                yield Frame(self._rgb(picture), pts, self.info.time_base, picture.duration or 0)
        self._say_what_was_moved()
        problem = self._problem()
        if problem:
            raise BrokenStream(
                f"{self._name} is damaged ({problem}): {self._frames} frames could be read and were kept; "
                "get an intact copy for the rest.",
                self._frames,
            )

    def _say_what_was_moved(self) -> None:
        steps = self._clock.steps
        if steps:
            log.warning(
                "The clock of %s starts anew %s; the times go on from there.",
                self._name,
                "once" if steps == 1 else f"{steps} times",
            )
        if self._moved:
            log.warning(
                "%d frames of %s are stamped with a time not after the frame before; moved.",
                self._moved,
                self._name,
            )

    def _problem(self) -> str | None:
        if self._stop_reason:
            return self._stop_reason
        if self._missing:
            return f"cut short by {self._missing} bytes"
        if self._damaged:
            return f"{self._damaged} packets or frames with errors"
        return None

    def _decode(self) -> Iterator[av.VideoFrame]:
        """All pictures; a packet that does not decode is counted and skipped."""
        packets = self._container.demux(timed_streams(self._container))
        delivered = False
        while not self._stop_reason:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._stop_reason = f"reading stopped with '{error.strerror}'"
                packet = None
            if packet is not None:
                if packet.size:
                    self._clock.place(packet)
                if packet.stream_index != self.stream_index:
                    continue
            try:
                # The demuxer ends the stream with an empty packet.
                pictures = self._stream.decode(packet) if packet is None or packet.size else []
            except av.EOFError:
                pictures = []
            except av.FFmpegError:
                # What comes before the first picture may belong to one that a recording started after.
                self._damaged += delivered
                pictures = []
            for picture in pictures:
                self._damaged += delivered and picture.is_corrupt
                delivered = True
                yield picture
            if packet is None:
                return

    def _place(self, picture: av.VideoFrame) -> int:
        """Count the picture and return its time stamp."""
        if (picture.width, picture.height) != (self.info.width, self.info.height):
            raise BrokenStream(
                f"{self._name} is {self.info.width}x{self.info.height} and then {picture.width}x{picture.height} "
                f"after {self._frames} frames, which were kept; split the file there.",
                self._frames,
            )
        pts, step = picture.pts, max(1, round(1 / (self.info.rate * self.info.time_base)))
        if pts is None:
            # Raw streams carry no time stamps: count on at the average rate.
            pts = 0 if self._pts is None else self._pts + step
        elif self._pts is not None and pts <= self._pts:
            self._moved += 1
            pts = self._pts + 1
        self._pts = pts
        self._frames += 1
        return self._pts

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream, container = self._stream, self._container
        time_base = stream.time_base or Fraction(1, 25)
        stated = [stream.average_rate, stream.guessed_rate]
        if first.duration:
            stated.append(1 / (first.duration * time_base))
        # Some demuxers state the ticks of their clock.
        rate = next((r for r in stated if r and r <= _HIGHEST_RATE), Fraction(25))
        if stream.frames:
            frames = stream.frames
        elif stream.duration:
            frames = max(1, round(stream.duration * time_base * rate))
        elif container.duration:
            frames = max(1, round(Fraction(container.duration, av.time_base) * rate))
        else:
            frames = None
        if holds_rgb(first):
            colour = IMAGE_COLOUR
        else:
            full = first.format.name.startswith("yuvj") or first.color_range == RANGE_FULL
            colour = Colour(
                int(first.colorspace),
                int(first.color_primaries),
                int(first.color_trc),
                RANGE_FULL if full else int(first.color_range),
            )
        matrix = _display_matrix(first)
        return VideoInfo(
            width=first.width,
            height=first.height,
            time_base=time_base,
            rate=rate,
            frames=frames,
            colour=colour,
            bits=max(component.bits for component in first.format.components),
            sample_aspect_ratio=stream.sample_aspect_ratio,
            rotation=first.rotation,
            display_matrix=matrix,
            metadata=dict(container.metadata),
            stream_metadata=dict(stream.metadata),
        )


def _not_kept(picture: av.VideoFrame) -> list[str]:
    """What a picture holds that does not come along, in words for the person who restores it."""
    found = []
    if picture.interlaced_frame:
        found.append(
            "its pictures are interlaced and become progressive; deinterlace first: ffmpeg -vf bwdif"
        )
    alpha = picture.format.name.startswith(("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya"))
    if alpha:
        found.append("its transparency is left out")
    try:
        captions = av.sidedata.sidedata.Type.A53_CC in picture.side_data
    except ValueError:  # PyAV knows no name for some kinds
        captions = False
    if captions:
        found.append("its closed captions are left out")
    return found


def _hint(name: str) -> str:
    return ", and addresses are not read: download it first" if "://" in name else ""


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    """How a player turns the picture, as containers say it."""
    try:
        side = picture.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    except ValueError:
        # PyAV knows no name for some kinds, such as EXIF, and then hands out none at all.
        if not picture.rotation:
            return None
        x, y = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(picture.rotation / 90) % 4]
        return (x << 16, -y * (1 << 16), 0, y * (1 << 16), x << 16, 0, 0, 0, 1 << 30)
    return struct.unpack("=9i", bytes(side)) if side else None


def _open(path: Path) -> av.container.InputContainer:
    if not path.stat().st_size:
        raise RirnError(f"{path} is empty (0 bytes); give a video file or a folder of images.")
    try:
        # The prefix keeps FFmpeg from reading a colon in the name as a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        cause = error.strerror
        if missing_bytes(str(path)):
            cause = "it is cut short"
        raise RirnError(
            f"{path} is not a video that can be read ({cause}); give a video file or a folder of images."
        ) from error
    # FFmpeg draws text files as ANSI art, which nobody means to deblur.
    if container.format.name == "tty":
        container.close()
        raise RirnError(f"{path} is a text file; give a video file or a folder of images.")
    return container


def _video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The best moving picture inside; cover art does not count."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        raise RirnError(f"{name} holds no video stream; give a video file or a folder of images.")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise RirnError(
            f"{name} is coded in a way that this FFmpeg has no decoder for; convert it to H.264 first."
        )
    return stream
