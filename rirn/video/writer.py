"""Encode frames into a video file, which gets its name when it is complete."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.colour import ToPicture
from rirn.video.encoding import Encoding
from rirn.video.files import FORMATS, part_name, write_failures
from rirn.video.frames import Frame, VideoInfo
from rirn.video.mux import decoding_times, muxer_options
from rirn.video.tags import own_tags

log = logging.getLogger("rirn.video")

_FORMATS = FORMATS | {".nut": "nut"}


class VideoWriter:
    """One encoded stream of frames with the time stamps, colours, orientation and tags of the input.

    Frames of even width and height become 4:2:0, which plays everywhere. H.264 stores 4:2:0 in steps of two
    pixels, so an odd width or height becomes 4:4:4: the exact size is kept, at the price that some hardware
    players refuse it.

    Time stamps are copied in the input's time base. MP4 and MOV keep them exactly, Matroska rounds to
    milliseconds.

    The file is written under a hidden name beside ``target`` and renamed by ``finish``; ``abort`` removes it.

    Args:
        target: file name ending in .mp4, .m4v, .mov or .mkv; an existing file is replaced by ``finish``.
        info: what the frames are; their size must be ``info.width`` x ``info.height``.
        encoding: encoder and options; by default H.264, visually lossless.

    Raises:
        RirnError: the file cannot be created or written, or the encoder does not take these options.

    Example:
        >>> with Reader("clip.mp4") as reader:
        ...     writer = VideoWriter("darker.mkv", reader.info)
        ...     for frame in reader:
        ...         frame.rgb //= 2
        ...         writer.write(frame)
        ...     writer.finish()
    """

    def __init__(self, target: str | os.PathLike, info: VideoInfo, encoding: Encoding | None = None):
        self.frames = 0
        self._info = info
        # A link stays; what it points to is replaced.
        self._path = Path(os.path.realpath(target))
        format = _FORMATS.get(self._path.suffix.lower())
        if format is None:
            raise RirnError(f"{target} ends in '{self._path.suffix}'; use {', '.join(FORMATS)}")
        encoding = (encoding or Encoding()).resolve(info)
        self._part = part_name(self._path)
        try:
            # Exclusive creation claims the name and proves that the folder can be written.
            os.close(os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise RirnError(f"Cannot create {self._path}: {error.strerror}") from error
        try:
            self._container = av.open(
                f"file:{self._part}",
                "w",
                format=format,
                container_options=muxer_options(format, info.time_base),
            )
            self._stream = _add_video(self._container, self._path.suffix, info, encoding)
            self._container.metadata.update(own_tags(info.metadata))
        except BaseException:
            self._part.unlink()
            raise
        self._picture = ToPicture(info.colour, info.width, info.height, encoding.pix_fmt)
        self._keeps_alpha = encoding.keeps_alpha
        # Of all frames, by their number, which is all that the encoder learns of time: that two frames are a
        # tick apart is no reason to code them badly, and decoding times stay regular.
        self._pts: list[int] = []
        self._moved = False
        self._durations: list[int] = []
        self._first_dts = 0
        self._held: av.Packet | None = None

    def write(self, frame: Frame) -> None:
        """Encode one frame; a ``pts`` not above the previous frame's is moved to the next free one."""
        height, width = frame.rgb.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            raise ValueError(
                f"frame is {width}x{height}; the video was opened with {self._info.width}x{self._info.height}"
            )
        picture = self._picture(frame.rgb, frame.alpha if self._keeps_alpha else None, frame.captions)
        pts = frame.pts
        if self._pts and pts <= self._pts[-1]:
            if not self._moved:
                log.warning(
                    "Frame %d has time stamp %d, not after %d; it and its like are moved.",
                    self.frames,
                    pts,
                    self._pts[-1],
                )
            self._moved = True
            pts = self._pts[-1] + 1
        picture.pts, picture.time_base = self.frames, self._stream.codec_context.time_base
        self._pts.append(pts)
        self._durations.append(frame.duration)
        with write_failures(self._path):
            self._mux(self._stream.encode(picture))
        self.frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, close the file and rename it; without a frame nothing appears."""
        if not self.frames:
            self.abort()
            return
        with write_failures(self._path):
            packets = self._stream.encode()
            if self._held is None:
                # x265 leaves the decoding times undefined for a clip shorter than its delay.
                for packet, dts in zip(packets, decoding_times([p.pts for p in packets]), strict=True):
                    packet.dts = dts
            self._mux(packets)
            self._mux_held()
            self._container.close()
            os.replace(self._part, self._path)

    def abort(self) -> None:
        """Remove what was written; harmless after ``finish``."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            log.debug("closing %s: %s", self._part, error)
        self._part.unlink(missing_ok=True)

    def _mux(self, packets: list[av.Packet]) -> None:
        """Set the times of packets, and mux all but the latest, which may turn out to be the last."""
        for packet in packets:
            index, turn = packet.pts, packet.dts
            packet.time_base = self._info.time_base
            packet.pts, packet.duration = self._pts[index], self._durations[index]
            packet.dts = self._pts[turn] if turn >= 0 else self._pts[0] + turn
            if self._held is None:
                self._first_dts = packet.dts
            else:
                self._container.mux(self._held)
            self._held = packet

    def _mux_held(self) -> None:
        """Mux the last packet, with a duration such that the stream ends when the last frame does.

        Muxers add the duration of the last packet in coding order to its decoding time; with B-frames that is
        not the frame shown last.
        """
        if self._durations[-1]:
            length = self._pts[-1] + self._durations[-1] - self._pts[0]
            self._held.duration = length - (self._held.dts - self._first_dts)
        self._container.mux(self._held)


def check_encoding(target: Path, info: VideoInfo, encoding: Encoding) -> None:
    """Raise RirnError if ``target`` cannot be a video of ``info`` in ``encoding``, which must be fully decided.

    The encoder is opened for this; nothing is written.
    """
    with av.open(io.BytesIO(), "w", format=FORMATS[target.suffix.lower()]) as trial:
        _add_video(trial, target.suffix, info, encoding)


def _add_video(
    container: av.container.OutputContainer, suffix: str, info: VideoInfo, encoding: Encoding
) -> av.VideoStream:
    """A stream with its encoder open, in a container for files ending in ``suffix``."""
    rate = info.rate.limit_denominator(1 << 30)
    try:
        stream = container.add_stream(encoding.codec, rate=rate, options=dict(encoding.options))
    except ValueError as error:
        raise RirnError(
            f"{suffix} files cannot hold what the encoder {encoding.codec} makes; use .mkv or .mov"
        ) from error
    stream.width, stream.height, stream.pix_fmt = info.width, info.height, encoding.pix_fmt
    context = stream.codec_context
    context.time_base, stream.time_base = 1 / rate, info.time_base
    # Slices, PyAV's default, cost compression: 2 to 4 percent more bytes at 720p, and more time.
    context.thread_type = "FRAME"
    context.colorspace, context.color_range = info.colour.matrix, info.colour.range
    context.color_primaries, context.color_trc = info.colour.primaries, info.colour.transfer
    if info.sample_aspect_ratio:
        context.sample_aspect_ratio = info.sample_aspect_ratio
    if info.display_matrix is not None:
        stream.set_display_matrix(info.display_matrix)
    stream.metadata.update(own_tags(info.stream_metadata))
    try:
        context.open()
    except av.FFmpegError as error:
        options = "".join(f" {name}={value}" for name, value in encoding.options.items())
        raise RirnError(
            f"The encoder {encoding.codec} does not start with{options or ' its defaults'} on {encoding.pix_fmt} "
            f"frames of {info.width}x{info.height} ({error.strerror}); change its options or the sample format"
        ) from error
    if context.options:  # what the encoder did not take
        raise RirnError(
            f"The encoder {encoding.codec} has no option '{next(iter(context.options))}'; leave it out, or see "
            f"ffmpeg -h encoder={encoding.codec}"
        )
    return stream
