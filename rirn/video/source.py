"""The pictures of a container, with their time stamps."""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.colour import FromPicture, alpha_of, captions_of, holds_rgb
from rirn.video.companions import describe
from rirn.video.containers import missing_bytes
from rirn.video.cut import ALL, Cut
from rirn.video.frames import IMAGE_COLOUR, RANGE_FULL, BrokenStream, Colour, Frame, VideoInfo
from rirn.video.losses import CAPTIONS, HIDDEN_ALPHA, INTERLACING, Loss, has_alpha, of_picture
from rirn.video.tags import own_tags
from rirn.video.times import Clock, even_rate, timed_streams

log = logging.getLogger("rirn.video")

_HIGHEST_RATE = 1000  # frames per second


class VideoSource:
    """The best video stream of an open container, as ``Reader`` delivers it.

    Args:
        name: name for messages.
        container: not yet read from; closed by ``close``, or if this fails.
        missing: bytes that the file lacks at its end.
        cut: the part to read.
        path: the file, if it can be opened again.
        deinterlace: fill in the lines of interlaced pictures.

    Raises:
        RirnError: it contains no picture.
    """

    def __init__(
        self,
        name: str,
        container: av.container.InputContainer,
        missing: int = 0,
        cut: Cut = ALL,
        path: Path | None = None,
        deinterlace: bool = False,
    ):
        self._name, self._cut = name, cut
        self._container = container
        try:
            self._stream = _video_stream(self._container, name)
            self.stream_index = self._stream.index
            self._stream.thread_type = "AUTO"
            self._missing = missing
            self._pts: int | None = None
            self._frames = 0
            self._damaged = 0
            self._has_delivered = False
            self._stop_reason: str | None = None
            self._even, reason = (path and even_rate(path, self.stream_index)) or (None, "")
            if self._even:
                log.warning(
                    "The time stamps of %s cannot be believed (%s): its frames are spaced evenly, %.6g a second.",
                    name,
                    reason,
                    self._even,
                )
            self._first_pts = 0
            self._clock = Clock(self._container)
            self._moved = 0
            decoded = self._decode()
            first = next(decoded, None)
            if first is None:
                if self._container.format.name.startswith("webp"):
                    raise RirnError(
                        f"{name} is an animated WebP, which FFmpeg does not decode; save it as GIF first"
                    )
                raise RirnError(f"{name} holds no frame that can be decoded; check that it plays elsewhere")
            self.info = self._describe(first)
            self._deinterlaces = deinterlace
            self.not_kept: list[Loss] = []
            self._note(first)
            if self._stream.metadata.get("alpha_mode") == "1" and not self.info.has_alpha:
                self.not_kept.append(HIDDEN_ALPHA)
            pictures = chain([first], decoded)
            if deinterlace:
                pictures = _Deinterlacer(self._stream)(pictures)
            self._pictures = self._within(pictures)
            self._rgb = FromPicture(self.info.colour, self.info.bits)
            self._is_over = False
            self.begin = Fraction(0)
            if cut.start:
                first_within = next(self._pictures, None)
                if first_within is None:
                    raise too_late(name, cut)
                self._pictures = chain([first_within], self._pictures)
        except BaseException:
            self._container.close()
            raise

    def close(self) -> None:
        self._container.close()

    def others(self) -> list[str]:
        """The streams other than the pictures, the chapters and the tags, in a few words each."""
        found = [describe(s) for s in self._container.streams if s.index != self.stream_index]
        further = {"chapters": self._container.chapters(), "tags": own_tags(self._container.metadata)}
        return [*found, *(name for name, there in further.items() if there)]

    def frames(self, skip: int) -> Iterator[Frame]:
        for number, (picture, pts) in enumerate(self._pictures):
            if number >= skip:
                frame = Frame(self._rgb(picture), pts, self.info.time_base, picture.duration or 0)
                if self.info.has_alpha:
                    frame.alpha = alpha_of(picture)
                if CAPTIONS in self._note(picture):
                    frame.captions = captions_of(picture)
                yield frame
        self._say_what_was_moved()
        if self._is_over:
            return
        problem = self._problem()
        if problem:
            raise BrokenStream(
                f"{self._name} is damaged ({problem}): {self._frames} frames could be read and were kept; "
                "get an intact copy for the rest",
                self._frames,
            )

    def _note(self, picture: av.VideoFrame) -> list[Loss]:
        """What a picture holds besides its samples, remembered for ``not_kept``."""
        found = [loss for loss in of_picture(picture) if not (self._deinterlaces and loss is INTERLACING)]
        self.not_kept += [loss for loss in found if loss not in self.not_kept]
        return found

    def _within(self, pictures: Iterator[av.VideoFrame]) -> Iterator[tuple[av.VideoFrame, int]]:
        """The pictures of the cut, with time stamps that count from its first one."""
        if self._cut.is_all:
            yield from ((picture, self._place(picture)) for picture in pictures)
            return
        begin, time_base, count = 0, self.info.time_base, 0
        held: tuple[av.VideoFrame, int] | None = None
        for picture in pictures:
            pts = self._place(picture)
            if pts * time_base < self._cut.start:
                continue
            if held is not None:
                # The duration of the last one decides where the sound ends; with B-frames few containers state it.
                held[0].duration = pts - begin - held[1]
                yield held
            elif self._cut.start:
                begin, self.begin = pts, pts * time_base
            if self._cut.is_over(pts * time_base, count):
                self._is_over = True
                return
            count += 1
            held = picture, pts - begin
        if held is not None:
            yield held

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
        """Yield all pictures; a packet that does not decode is counted and skipped."""
        packets = self._container.demux(timed_streams(self._container))
        skipped = _Skipped(Fraction(0) if self._even else self._cut.start)
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
            for wanted in skipped.decodable(packet):
                yield from self._pictures_of(wanted)
            if packet is None:
                return

    def _pictures_of(self, packet: av.Packet | None) -> list[av.VideoFrame]:
        try:
            # The demuxer ends the stream with an empty packet.
            pictures = self._stream.decode(packet) if packet is None or packet.size else []
        except av.EOFError:
            pictures = []
        except av.FFmpegError:
            # What comes before the first picture may belong to one that a recording started after.
            self._damaged += self._has_delivered
            pictures = []
        for picture in pictures:
            self._damaged += self._has_delivered and picture.is_corrupt
            self._has_delivered = True
        return pictures

    def _place(self, picture: av.VideoFrame) -> int:
        """Count the picture and return its time stamp."""
        if (picture.width, picture.height) != (self.info.width, self.info.height):
            raise BrokenStream(
                f"{self._name} is {self.info.width}x{self.info.height} and then {picture.width}x{picture.height} "
                f"after {self._frames} frames, which were kept; split the file there",
                self._frames,
            )
        pts, step = picture.pts, max(1, round(1 / (self.info.rate * self.info.time_base)))
        if self._even:
            if not self._frames:
                self._first_pts = max(0, pts or 0)
            pts = self._first_pts + round(self._frames / (self._even * self.info.time_base))
            picture.duration = step
        elif pts is None:
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
        rate = self._even or next((r for r in stated if r and r <= _HIGHEST_RATE), Fraction(25))
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
            has_alpha=has_alpha(first),
            bits=max(component.bits for component in first.format.components),
            sample_aspect_ratio=stream.sample_aspect_ratio,
            rotation=first.rotation,
            display_matrix=matrix,
            metadata=dict(container.metadata),
            stream_metadata=dict(stream.metadata),
        )


class _Skipped:
    """Holds back the packets of pictures before a time, as far as later ones may need them.

    Those are the last two groups that begin with a key frame: a recording may call a picture a key frame from which
    the pictures become right only gradually.
    """

    def __init__(self, start: Fraction):
        self._start = start
        self._groups: deque[list[av.Packet]] = deque([[]], maxlen=2)
        self._holds = bool(start)

    def decodable(self, packet: av.Packet | None) -> list[av.Packet | None]:
        """Return what to decode after ``packet``, which is None at the end."""
        if not self._holds:
            return [packet]
        if packet is not None and (not packet.size or packet.pts is None):
            self._holds = packet.pts is not None or not packet.size
        elif packet is None or packet.pts * packet.time_base >= self._start:
            self._holds = False
        elif packet.is_keyframe:
            self._groups.append([])
        if self._holds:
            self._groups[-1].append(packet)
            return []
        held = [p for group in self._groups for p in group]
        self._groups.clear()
        return [*held, packet]


def too_late(name: str, cut: Cut) -> RirnError:
    return RirnError(f"{name} has no frame at or after {float(cut.start):.9g} s; give an earlier --start")


class _Deinterlacer:
    """Deinterlaces pictures with libavfilter's bwdif, keeping their number and times."""

    def __init__(self, stream: av.VideoStream):
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(template=stream)
        bwdif = self._graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._facts: deque[tuple[int | None, int]] = deque()

    def __call__(self, pictures: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        for picture in pictures:
            self._facts.append((picture.pts, picture.duration))
            picture.pts = len(self._facts)  # the filter wants times, and gives them back in another unit
            self._graph.push(picture)
            yield from self._filtered()
        self._graph.push(None)
        yield from self._filtered()

    def _filtered(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                picture = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            picture.pts, picture.duration = self._facts.popleft()
            yield picture


def _display_matrix(picture: av.VideoFrame) -> tuple[int, ...] | None:
    """How a player turns the picture, in the form that containers use."""
    try:
        side = picture.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    except ValueError:
        # PyAV knows no name for some kinds, such as EXIF, and then hands out none at all.
        if not picture.rotation:
            return None
        x, y = ((1, 0), (0, 1), (-1, 0), (0, -1))[round(picture.rotation / 90) % 4]
        return (x << 16, -y * (1 << 16), 0, y * (1 << 16), x << 16, 0, 0, 0, 1 << 30)
    return struct.unpack("=9i", bytes(side)) if side else None


def open_file(path: Path) -> av.container.InputContainer:
    if not path.stat().st_size:
        raise RirnError(f"{path} is empty (0 bytes); give a video file or a folder of images")
    try:
        # The prefix keeps FFmpeg from reading a colon in the name as a protocol.
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        cause = error.strerror
        if missing_bytes(str(path)):
            cause = "it is cut short"
        raise RirnError(
            f"{path} is not a video that can be read ({cause}); give a video file or a folder of images"
        ) from error
    # FFmpeg draws text files as ANSI art, which nobody means to deblur.
    if container.format.name == "tty":
        container.close()
        raise RirnError(f"{path} is a text file; give a video file or a folder of images")
    return container


def _video_stream(container: av.container.InputContainer, name: str) -> av.VideoStream:
    """The best video stream inside; cover art does not count."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not moving:
        raise RirnError(f"{name} holds no video stream; give a video file or a folder of images")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise RirnError(
            f"{name} is coded in a way that this FFmpeg has no decoder for; convert it to H.264 first"
        )
    return stream
