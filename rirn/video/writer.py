"""Write frames to a video file or a folder of PNG images, which take their name when they are whole."""

from __future__ import annotations

import io
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.codec.context import Flags
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image

from rirn.errors import RirnError
from rirn.video.frames import Frame, VideoInfo
from rirn.video.reader import SWS_FLAGS, SWS_MATRIX

log = logging.getLogger("rirn.video")

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}

# Tags that describe the input's container or encoder; the output's own muxer writes them anew.
_TECHNICAL_TAGS = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "rotate",
    "vendor_id",
    "bps",
}


def check_target(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Raise RirnError if `target` cannot be written or is the input; costs nothing and touches nothing.

    A name that ends in .mp4, .m4v, .mov or .mkv is a video: an existing regular file is replaced once its
    successor is whole. An existing folder, or a name without a suffix or with a slash at its end, is a folder
    of images, which must be empty if it exists.
    """
    path = Path(os.path.realpath(target))
    if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
        raise RirnError(f"The output {target} is the input itself; give another name.")
    if not path.parent.is_dir():
        raise RirnError(
            f"The folder {path.parent} does not exist; create it or choose another place for {path.name}."
        )
    if is_image_folder(target):
        if path.exists() and not path.is_dir():
            raise RirnError(f"{target} exists and is no folder; choose another name for the images.")
        if path.is_dir() and any(path.iterdir()):
            raise RirnError(f"The folder {target} is not empty; empty it or choose another for the images.")
    elif path.suffix.lower() not in FORMATS:
        raise RirnError(
            f"{target} ends in '{path.suffix}', which is no format that can be written; "
            f"use {', '.join(FORMATS)}, or a name without a suffix for a folder of PNG images."
        )
    elif path.exists() and not path.is_file():
        raise RirnError(f"{target} exists and is no regular file; choose another name.")
    place = path if path.is_dir() else path.parent
    if not os.access(place, os.W_OK | os.X_OK):
        raise RirnError(f"The folder {place} is not writable; choose another place for {path.name}.")


def is_image_folder(target: str | os.PathLike) -> bool:
    """Whether `target` names a folder of images rather than a video file."""
    text = os.fspath(target)
    return text.endswith((os.sep, "/")) or os.path.isdir(text) or not Path(text).suffix


def open_writer(
    target: str | os.PathLike,
    info: VideoInfo,
    *,
    copy: tuple[av.stream.Stream, ...] = (),
    crf: int = 18,
    preset: str = "medium",
) -> VideoWriter | ImageFolderWriter:
    """The writer that the name of `target` asks for; the arguments are those of `VideoWriter`."""
    if is_image_folder(target):
        return ImageFolderWriter(target)
    return VideoWriter(target, info, copy=copy, crf=crf, preset=preset)


class VideoWriter:
    """H.264 in MP4, MOV or Matroska with the time stamps, colours, orientation, tags and sound of the input.

    Frames of even width and height become yuv420p, which plays everywhere. H.264 stores 4:2:0 in steps of two
    pixels, so an odd width or height becomes yuv444p: the exact size is kept, at the price that some hardware
    players refuse it (a warning says so).

    Time stamps are copied in the input's time base. MP4 and MOV keep them exactly. Matroska rounds to
    milliseconds and has no times below zero: where sound starts before zero, all streams move together.

    The file grows under a hidden name beside `target` and takes its name in `finish`; `abort` removes it.

    Args:
        target: file name ending in .mp4, .m4v, .mov or .mkv; an existing file is replaced by `finish`.
        info: what the frames are; their size must be `info.width` x `info.height`.
        copy: streams of an open input to pass on without recoding. Those the format cannot hold are left out
            with a warning; `copies` has the rest.
        crf: constant rate factor of x264, 0 (lossless but for the conversion to YUV) to 51; 18 is visually
            lossless.
        preset: x264's trade of speed for size, ultrafast to veryslow.

    Raises:
        RirnError: the file cannot be created or written.

    Example:
        >>> with Reader("clip.mp4") as reader:
        ...     writer = VideoWriter("darker.mkv", reader.info, copy=reader.copyable)
        ...     for item in reader.demux():
        ...         if isinstance(item, Frame):
        ...             item.rgb //= 2
        ...             writer.write(item)
        ...         else:
        ...             writer.copy(item)
        ...     writer.finish()
    """

    def __init__(
        self,
        target: str | os.PathLike,
        info: VideoInfo,
        *,
        copy: tuple[av.stream.Stream, ...] = (),
        crf: int = 18,
        preset: str = "medium",
    ):
        self.frames = 0
        self._info = info
        # A link keeps pointing where it does; what it points to is replaced.
        self._path = Path(os.path.realpath(target))
        format = FORMATS.get(self._path.suffix.lower())
        if format is None:
            raise RirnError(f"{target} ends in '{self._path.suffix}'; use {', '.join(FORMATS)}.")
        if "libx264" not in av.codecs_available:
            raise RirnError(
                "This PyAV has no libx264 encoder; install the wheels of PyAV, or write a folder of images."
            )
        self._part = _part_name(self._path)
        try:
            # Exclusive creation claims the name and proves that the folder can be written.
            os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise RirnError(f"Cannot create {self._path}: {error.strerror}.") from error
        try:
            self._container = av.open(
                f"file:{self._part}", "w", format=format, container_options=self._muxer_options(format)
            )
            self._stream = self._add_video(crf, preset)
            self._copies = self._add_copies(copy, format)
            self._container.metadata.update(_own_tags(info.metadata))
        except BaseException:
            self._part.unlink()
            raise
        self._matrix = info.colour.resolved_matrix(info.width, info.height)
        self._scale = VideoReformatter()
        self._first_pts: int | None = None
        self._last_pts: int | None = None
        self._last_duration = 0
        self._first_dts = 0
        self._held: av.Packet | None = None

    @property
    def copies(self) -> frozenset[int]:
        """Indices of the input streams whose packets `copy` takes."""
        return frozenset(self._copies)

    def write(self, frame: Frame) -> None:
        """Encode one frame; a `pts` that is not above the last frame's is moved to the next free one."""
        height, width = frame.rgb.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise ValueError(
                f"frame is {width}x{height}; the video was opened with {self._info.width}x{self._info.height}"
            )
        colour = self._info.colour
        picture = self._scale.reformat(
            av.VideoFrame.from_ndarray(frame.rgb, "rgb24"),
            format=self._stream.pix_fmt,
            interpolation=SWS_FLAGS,
            src_color_range=ColorRange.JPEG,
            dst_colorspace=SWS_MATRIX.get(self._matrix, Colorspace.DEFAULT),
            dst_color_range=ColorRange(colour.resolved_range()),
        )
        picture.colorspace, picture.color_range = colour.matrix, colour.range
        picture.pts, picture.time_base, picture.duration = frame.pts, frame.time_base, frame.duration
        if self._last_pts is not None and frame.pts <= self._last_pts:
            log.warning(
                "Frame %d has time stamp %d, not after %d; moved.", self.frames, frame.pts, self._last_pts
            )
            picture.pts = self._last_pts + 1
        if self._first_pts is None:
            self._first_pts = picture.pts
        self._last_pts, self._last_duration = picture.pts, frame.duration
        with _failures(self._path):
            self._mux(self._stream.encode(picture))
        self.frames += 1

    def copy(self, packet: av.Packet) -> None:
        """Pass a packet of one of the `copies` on as it is; others are dropped."""
        stream = self._copies.get(packet.stream_index)
        if stream is not None:
            packet.stream = stream
            with _failures(self._path):
                self._container.mux(packet)

    def finish(self) -> None:
        """Write what the encoder still holds, close the file and name it; without a frame nothing appears."""
        if not self.frames:
            self.abort()
            return
        with _failures(self._path):
            self._mux(self._stream.encode())
            self._mux_held()
            self._container.close()
            os.replace(self._part, self._path)

    def abort(self) -> None:
        """Remove what was written; harmless after `finish`."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            log.debug("closing %s: %s", self._part, error)
        self._part.unlink(missing_ok=True)

    def _mux(self, packets: list[av.Packet]) -> None:
        """Mux all but the latest packet, which may turn out to be the last."""
        for packet in packets:
            if self._held is None:
                self._first_dts = packet.dts
            else:
                self._container.mux(self._held)
            self._held = packet

    def _mux_held(self) -> None:
        """Mux the last packet, long enough that the stream ends when the last frame does.

        Muxers add the duration of the last packet in coding order to its decoding time; with B-frames that is
        not the frame shown last.
        """
        if self._last_duration:
            length = self._last_pts + self._last_duration - self._first_pts
            self._held.duration = length - (self._held.dts - self._first_dts)
        self._container.mux(self._held)

    def _muxer_options(self, format: str) -> dict[str, str]:
        options = {}
        if format in ("mp4", "mov"):
            # The index at the front lets a browser start before it has the whole file.
            options["movflags"] = "+faststart"
            ticks = str(self._info.time_base.denominator)
            # In milliseconds, the default, the time of the first frame would be rounded.
            options["movie_timescale"] = ticks
            if self._info.time_base.numerator == 1:
                # The muxer would choose a multiple: same times, other numbers.
                options["video_track_timescale"] = ticks
        return options

    def _add_video(self, crf: int, preset: str) -> av.VideoStream:
        info = self._info
        stream = self._container.add_stream(
            "libx264", rate=info.rate.limit_denominator(1 << 30), options={"crf": str(crf), "preset": preset}
        )
        stream.width, stream.height = info.width, info.height
        odd = info.width % 2 or info.height % 2
        stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        if odd:
            log.warning(
                "%dx%d has an odd side: %s gets full colour resolution (4:4:4), which some players refuse.",
                info.width,
                info.height,
                self._path.name,
            )
        context = stream.codec_context
        context.time_base = info.time_base
        # Slices, PyAV's default, cost compression: 2 to 4 percent more bytes at 720p, and more time.
        context.thread_type = "FRAME"
        # Packets get the durations of their frames.
        context.flags |= Flags.frame_duration
        context.colorspace, context.color_range = info.colour.matrix, info.colour.range
        context.color_primaries, context.color_trc = info.colour.primaries, info.colour.transfer
        if info.sample_aspect_ratio:
            context.sample_aspect_ratio = info.sample_aspect_ratio
        if info.display_matrix is not None:
            stream.set_display_matrix(info.display_matrix)
        stream.metadata.update(_own_tags(info.stream_metadata))
        return stream

    def _add_copies(
        self, templates: tuple[av.stream.Stream, ...], format: str
    ) -> dict[int, av.stream.Stream]:
        copies = {}
        for template in templates:
            reason = _refusal(template, format)
            if reason is None:
                stream = self._container.add_stream_from_template(template)
                stream.metadata.update(_own_tags(template.metadata))
                stream.disposition = template.disposition
                copies[template.index] = stream
            else:
                log.warning(
                    "%s cannot hold the %s stream %d (%s) and goes without it; an .mkv can hold most.",
                    self._path.name,
                    template.type,
                    template.index,
                    reason,
                )
        return copies


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    """Turn errors of FFmpeg and the system into one sentence about `path`."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        raise RirnError(f"Cannot write {path}: {error.strerror or error}.") from error


def _refusal(template: av.stream.Stream, format: str) -> str | None:
    """Why a container of `format` cannot hold `template`, or None; only writing a header tells for sure."""
    name = template.codec_context.name if template.codec_context is not None else "unknown codec"
    try:
        with av.open(io.BytesIO(), "w", format=format) as trial:
            trial.add_stream_from_template(template)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return name
    return None


def _own_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags that are about the content, without those about its coding (Matroska adds statistics)."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _TECHNICAL_TAGS
        and not key.upper().startswith(("_STATISTICS", "NUMBER_OF", "DURATION", "BPS"))
    }


def _part_name(path: Path) -> Path:
    """A hidden name in the folder of `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


class ImageFolderWriter:
    """A folder of 8-bit RGB PNG images, named like the input's images, or 00000000.png and on for a video.

    A new folder grows under a hidden name beside `target` and takes its name in `finish`. An existing, empty
    folder is kept (it may be a mount point or somebody's working directory): the images wait in a hidden
    folder inside and move up in `finish`.

    Args:
        target: folder to write; its parent must exist, and it must be empty if it exists.

    Raises:
        RirnError: the folder cannot be created or written, or is not empty.
    """

    copies: frozenset[int] = frozenset()

    def __init__(self, target: str | os.PathLike):
        self.frames = 0
        self._path = Path(os.path.realpath(target))
        self._inside = self._path.is_dir()
        if self._inside and any(self._path.iterdir()):
            raise RirnError(f"The folder {target} is not empty; empty it or choose another for the images.")
        self._part = _part_name(self._path / "images" if self._inside else self._path)
        with _failures(self._path):
            self._part.mkdir()

    def write(self, frame: Frame) -> None:
        """Save one frame."""
        name = frame.name if frame.name is not None else f"{self.frames:08d}"
        with _failures(self._path):
            # Pillow's default, level 6, took 1.6 to 3 times as long at 720p for at most an eighth of the
            # size.
            Image.fromarray(frame.rgb).save(self._part / f"{name}.png", compress_level=3)
        self.frames += 1

    def copy(self, packet: av.Packet) -> None:
        """Images hold no other streams; the packet is dropped."""

    def finish(self) -> None:
        """Give the images their place. Without any frame, nothing appears."""
        if not self.frames:
            self.abort()
            return
        with _failures(self._path):
            if self._inside:
                for file in sorted(self._part.iterdir()):
                    file.rename(self._path / file.name)
                self._part.rmdir()
            else:
                self._part.rename(self._path)

    def abort(self) -> None:
        """Remove what was written; harmless after `finish`."""
        shutil.rmtree(self._part, ignore_errors=True)
