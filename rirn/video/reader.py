"""Read a video file, or a folder of images, as RGB frames with their time stamps."""

from __future__ import annotations

import logging
import os
import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from rirn.data.images import IMAGE_SUFFIXES, image_size, list_images, read_image
from rirn.errors import RirnError
from rirn.video.containers import missing_bytes
from rirn.video.frames import IMAGE_COLOUR, MATRIX_RGB, RANGE_FULL, BrokenStream, Colour, Frame, VideoInfo

log = logging.getLogger("rirn.video")

# swscale's matrix for each matrix code point that it can compute; the others are read as BT.601, like
# swscale's own default.
SWS_MATRIX = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.SMPTE170M,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
# Without the two FULL_CHR flags swscale replicates and drops chroma samples: 42 instead of 53 dB on a smooth
# 720p picture there and back, for about the same time.
SWS_FLAGS = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


class Reader:
    """Frames of a video file, or of a folder of images sorted by the numbers in their names.

    Opening decodes the first frame, so that `info` is exact and a file without a picture is refused before
    any work starts. Iterate over the reader for its frames, or over `demux()` for frames and the packets of
    other streams in file order; both run through the input once. The stored orientation is kept:
    `info.display_matrix` says how a player turns it.

    Args:
        path: any file FFmpeg reads, or a folder with images of one size (png, jpg, tif, bmp, ppm, webp).
        rate: frames per second given to a folder of images; a video has its own time stamps.

    Raises:
        RirnError: nothing to read there: missing, unreadable, no video inside, no images, images of different
            sizes.
        BrokenStream: while iterating, after all good frames: the input is cut short or partly damaged.

    Example:
        >>> with Reader("clip.mp4") as reader:
        ...     for frame in reader:
        ...         print(frame.rgb.shape, frame.rgb.dtype, frame.pts * frame.time_base, "s")
        (48, 64, 3) uint8 0 s
        (48, 64, 3) uint8 1/25 s
    """

    def __init__(self, path: str | os.PathLike, *, rate: Fraction | int = 25):
        self.path = Path(path)
        if not self.path.exists():
            raise RirnError(f"{self.path} does not exist; give a video file or a folder of images.")
        folder = self.path.is_dir()
        self._source = _FolderSource(self.path, Fraction(rate)) if folder else _VideoSource(self.path)
        self.info: VideoInfo = self._source.info

    @property
    def copyable(self) -> tuple[av.stream.Stream, ...]:
        """The streams besides the pictures whose packets `demux` delivers: all audio streams of a video."""
        return self._source.copyable

    def __iter__(self) -> Iterator[Frame]:
        return (item for item in self._source.items() if isinstance(item, Frame))

    def demux(self) -> Iterator[Frame | av.Packet]:
        """Frames, and the packets of the `copyable` streams, in the order of the file."""
        return self._source.items()

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        self._source.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _VideoSource:
    def __init__(self, path: Path):
        self._path = path
        self._container = _open(path)
        try:
            self._stream = _video_stream(self._container, path)
            self.copyable = tuple(self._container.streams.audio)
            self._stream.thread_type = "AUTO"
            self._scale = VideoReformatter()
            self._missing = missing_bytes(str(path))
            self._pts: int | None = None
            self._frames = 0
            self._damaged = 0
            self._stop_reason: str | None = None
            self._decoded = self._decode()
            # Packets of other streams that come before the first picture wait here.
            self._ahead: deque = deque()
            for item in self._decoded:
                self._ahead.append(item)
                if isinstance(item, av.VideoFrame):
                    self.info = self._describe(item)
                    break
            else:
                raise RirnError(f"{path} holds no frame that can be decoded; check that it plays elsewhere.")
        except BaseException:
            self._container.close()
            raise
        if self.info.bits > 8:
            log.warning("%s has %d bits per sample; the result has 8.", path, self.info.bits)

    def close(self) -> None:
        self._container.close()

    def items(self) -> Iterator[Frame | av.Packet]:
        while self._ahead:
            yield self._convert(self._ahead.popleft())
        for item in self._decoded:
            yield self._convert(item)
        problem = self._problem()
        if problem:
            raise BrokenStream(
                f"{self._path} is damaged ({problem}): {self._frames} frames could be read and were kept; "
                "get an intact copy for the rest.",
                self._frames,
            )

    def _problem(self) -> str | None:
        if self._stop_reason:
            return self._stop_reason
        if self._missing:
            return f"cut short by {self._missing} bytes"
        if self._damaged:
            return f"{self._damaged} packets or frames with errors"
        return None

    def _decode(self) -> Iterator[av.VideoFrame | av.Packet]:
        """Pictures, and packets of other streams; a packet that does not decode is counted and skipped."""
        packets = self._container.demux(self._stream, *self.copyable)
        delivered = False
        while not self._stop_reason:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                self._stop_reason = f"reading stopped with '{error.strerror}'"
                packet = None
            if packet is not None and packet.stream is not self._stream:
                # The demuxer ends every stream with an empty packet.
                if packet.size:
                    yield packet
                continue
            try:
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

    def _convert(self, item: av.VideoFrame | av.Packet) -> Frame | av.Packet:
        if isinstance(item, av.Packet):
            return item
        if (item.width, item.height) != (self.info.width, self.info.height):
            raise BrokenStream(
                f"{self._path} is {self.info.width}x{self.info.height} and then {item.width}x{item.height} "
                f"after {self._frames} frames, which were kept; split the file there.",
                self._frames,
            )
        step = max(1, round(1 / (self.info.rate * self.info.time_base)))
        if item.pts is not None:
            self._pts = item.pts
        else:
            # Raw streams carry no time stamps: count on at the average rate.
            self._pts = 0 if self._pts is None else self._pts + step
        self._frames += 1
        return Frame(self._rgb(item), self._pts, self.info.time_base, item.duration or 0)

    def _rgb(self, picture: av.VideoFrame) -> np.ndarray:
        # The range is the frame's own, and limited where it has none.
        options = {}
        if not _holds_rgb(picture):
            matrix = self.info.colour.resolved_matrix(picture.width, picture.height)
            options["src_colorspace"] = SWS_MATRIX.get(matrix, Colorspace.DEFAULT)
        rgb = self._scale.reformat(
            picture, format="rgb24", interpolation=SWS_FLAGS, dst_color_range=ColorRange.JPEG, **options
        )
        # A copy of its own: the array would otherwise keep FFmpeg's padded buffer alive.
        return np.array(rgb.to_ndarray(), order="C")

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        stream, container = self._stream, self._container
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        time_base = stream.time_base or 1 / rate
        if stream.frames:
            frames = stream.frames
        elif stream.duration:
            frames = max(1, round(stream.duration * time_base * rate))
        elif container.duration:
            frames = max(1, round(Fraction(container.duration, av.time_base) * rate))
        else:
            frames = None
        if _holds_rgb(first):
            colour = IMAGE_COLOUR
        else:
            full = first.format.name.startswith("yuvj") or first.color_range == RANGE_FULL
            colour = Colour(
                int(first.colorspace),
                int(first.color_primaries),
                int(first.color_trc),
                RANGE_FULL if full else int(first.color_range),
            )
        side = first.side_data.get(SideDataType.DISPLAYMATRIX)
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
            display_matrix=struct.unpack("=9i", bytes(side)) if side else None,
            metadata=dict(container.metadata),
            stream_metadata=dict(stream.metadata),
        )


def _holds_rgb(picture: av.VideoFrame) -> bool:
    return picture.format.is_rgb or picture.format.has_palette or picture.colorspace == MATRIX_RGB


def _open(path: Path) -> av.container.InputContainer:
    if not path.stat().st_size:
        raise RirnError(f"{path} is empty (0 bytes); give a video file or a folder of images.")
    try:
        # The prefix keeps FFmpeg from reading a colon in the name as a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        if not os.access(path, os.R_OK):
            raise RirnError(f"{path} cannot be read; check its permissions.") from error
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


def _video_stream(container: av.container.InputContainer, path: Path) -> av.VideoStream:
    """The best moving picture inside; cover art does not count."""
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        raise RirnError(f"{path} holds no video stream; give a video file or a folder of images.")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise RirnError(
            f"{path} is coded in a way that this FFmpeg has no decoder for; convert it to H.264 first."
        )
    return stream


class _FolderSource:
    copyable: tuple = ()

    def __init__(self, path: Path, rate: Fraction):
        self._path = path
        if rate <= 0:
            raise RirnError(f"The frame rate must be above 0 frames per second, not {rate}.")
        self._files = _images(path)
        sizes = {}
        for file in self._files:
            sizes.setdefault(image_size(file), file)
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            raise RirnError(
                f"The images in {path} differ in size ({first.name} is {a[0]}x{a[1]}, {second.name} is "
                f"{b[0]}x{b[1]}); a clip needs one size."
            )
        ((width, height),) = sizes
        self._first: np.ndarray | None = read_image(self._files[0])
        self.info = VideoInfo(width, height, 1 / rate, rate, len(self._files))

    def close(self) -> None:
        self._first = None

    def items(self) -> Iterator[Frame]:
        for index, file in enumerate(self._files):
            if index == 0 and self._first is not None:
                rgb, self._first = self._first, None
            else:
                try:
                    rgb = read_image(file)
                except RirnError as error:
                    raise BrokenStream(f"{error} The {index} images before it were kept.", index) from error
            yield Frame(rgb, index, self.info.time_base, 1, file.stem)


def _images(folder: Path) -> list[Path]:
    files = list_images(folder)
    if not files:
        raise RirnError(f"{folder} holds no images ({', '.join(s[1:] for s in IMAGE_SUFFIXES)}).")
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other is not file:
            a, b = sorted((other.name, file.name))
            raise RirnError(f"{folder} holds both {a} and {b}; keep one image for each frame.")
    return files
