"""What a source holds besides its pictures, and what of it a container takes: found by trying it."""

from __future__ import annotations

import errno
import io
import logging
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from rirn.video import pyav as av
from rirn.video.files import FORMATS, write_failures
from rirn.video.tags import keeps_language, own_tags
from rirn.video.times import Clock, timed_streams

log = logging.getLogger("rirn.video")

# Packets of each stream to try a container with, and how far into the file to look for them.
_TRIED = 5
_LOOKED_AT = 2000
_LOOKED_AT_BYTES = 64 << 20
# A stream is left out if the muxer refuses more than one packet in so many, or this many.
_BAD_SHARE, _MOST_BAD = 4, 1000
# Seconds of inaudible sound that an encoder may have put at the start; more means that it was cut off.
_PRIMING = Fraction(1, 10)
# What MOV writes where it has no description of the samples of a stream.
_EMPTY_DESCRIPTION = b"\0\0\0\x10stsd"
# These concern the disk, and every other container would meet them, too.
_OF_THE_SYSTEM = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EFBIG", "EDQUOT", "EIO", "EROFS", "EACCES", "EPERM", "ENOENT", "ENOTDIR", "EISDIR"),
        *("ENAMETOOLONG", "EMFILE", "ENFILE", "EBADF", "ESTALE", "ENOMEM", "EINTR", "ETIMEDOUT", "ENODEV"),
    )
    if hasattr(errno, name)
}


def is_refusal(error: Exception) -> bool:
    """Whether the muxer refuses its input, rather than the disk failing."""
    return isinstance(error, ValueError | av.FFmpegError) and error_number(error) not in _OF_THE_SYSTEM


def error_number(error: Exception) -> int | None:
    """The errno of an error of FFmpeg or the system."""
    return getattr(error, "errno", None)


@dataclass
class Refused:
    """What a muxer did not take of one stream: packets by number, or all of it; and its message."""

    packets: set[int] = field(default_factory=set)
    is_whole: bool = False
    reason: str = ""


class Companions:
    """The streams of a source that are copied along with restored pictures, as far as a container takes them.

    Every stream is written to a scratch file in memory, with its header, its first packets and its end; what
    does not fit is named, with the formats that hold it.

    Args:
        source: a video file.
        replaced: index of its video stream.
        target: name of the future file; its suffix decides the format.
        begin: start of the restored part of the source, in seconds; None if nothing is cut off.

    Raises:
        RirnError: the source cannot be opened.
    """

    def __init__(self, source: Path, replaced: int, target: Path, begin: Fraction | None = None):
        self.source, self.replaced, self.begin = source, replaced, begin
        self.kept: set[int] = set()
        self.left_out: dict[int, str] = {}
        self.languages: list[str] = []  # that the format has no code for
        format = FORMATS[target.suffix.lower()]
        with write_failures(target), self.open() as original:
            heads = _heads(original, replaced)
            for template in original.streams:
                index = template.index
                if index != replaced and _rewritten(template, original, heads[index]):
                    continue
                language = template.metadata.get("language", "und")
                if not keeps_language(format, language):
                    self.languages.append(f"language {language} of {describe(template)}")
                if index == replaced:
                    continue
                reason = _refusal(template, heads[index], format)
                if reason is None:
                    self.kept.add(index)
                    continue
                self.left_out[index] = describe(template)
                others = {f for f in FORMATS.values() if _refusal(template, heads[index], f) is None}
                suffixes = [s for s in (".mkv", ".mov", ".mp4") if FORMATS[s] in others]
                log.warning(
                    "%s cannot hold the %s (%s) and goes without it; %s.",
                    target.name,
                    describe(template),
                    reason,
                    f"{' or '.join(suffixes)} can" if suffixes else "no other format here can",
                )

    def open(self) -> av.container.InputContainer:
        """Open the source."""
        return av.open(f"file:{self.source}", metadata_errors="replace")

    def add_to(
        self,
        out: av.container.OutputContainer,
        original: av.container.InputContainer,
        refused: Mapping[int, Refused],
    ) -> dict[int, av.stream.Stream]:
        """Add the streams that are kept to ``out``; return those that need packets, by index."""
        wholly = {index for index, what in refused.items() if what.is_whole}
        copies = {}
        for template in original.streams:
            if template.index not in self.kept or template.index in wholly:
                continue
            if _is_cover(template) and out.format.name == "matroska":
                picture = next((p for p in _head_of(self, template.index) if p.size), None)
                if picture is not None:
                    _attach(out, template, bytes(picture))
                continue
            copies[template.index] = _add(out, template)
        return copies

    def packets(
        self,
        original: av.container.InputContainer,
        wanted: Collection[int],
        end: Fraction | None,
        problems: list[str],
    ) -> Iterator[tuple[int, int, av.Packet]]:
        """Yield (stream index, number of the packet in it, packet) with continuous times, up to ``end`` seconds.

        Each stream's decoding times rise; what is shifted for that or cannot be read is added to ``problems``.
        """
        if not wanted:
            return
        clock = Clock(original)
        streams = {s.index for s in timed_streams(original)} | set(wanted)
        packets = original.demux([s for s in original.streams if s.index in streams])
        numbers: dict[int, int] = defaultdict(int)
        last: dict[int, int] = {}
        trimmed = _Trimmed()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                problems.append(f"the other streams end where reading did ({error.strerror})")
                return
            if packet is None:
                return
            if not packet.size:
                continue
            clock.place(packet)
            index = packet.stream_index
            if index not in wanted:
                continue
            numbers[index] += 1
            for number, audible in trimmed.audible(numbers[index] - 1, packet):
                if self.begin and not _moved_to_begin(audible, self.begin):
                    continue
                _put_in_order(audible, last)
                if end is None or packet_time(audible) < end:
                    _end_by(audible, end)
                    yield index, number, audible

    def examine(self, format: str, end: Fraction | None) -> dict[int, Refused]:
        """What a muxer of ``format`` does not take, found by giving it each stream alone."""
        refused: dict[int, Refused] = {}
        with self.open() as original:
            alone, counts = {}, defaultdict(int)
            for template in original.streams:
                if template.index in self.kept and not (_is_cover(template) and format == "matroska"):
                    out = av.open(_Nowhere(), "w", format=format)
                    alone[template.index] = out, _add(out, template)
            for index, number, packet in self.packets(original, alone.keys(), end, []):
                what = refused.get(index)
                if what is not None and what.is_whole:
                    continue
                out, packet.stream = alone[index]
                counts[index] += 1
                try:
                    out.mux(packet)
                except (ValueError, av.FFmpegError) as error:
                    what = refused.setdefault(index, Refused(reason=_words(error)))
                    what.packets.add(number)
                    what.is_whole = len(what.packets) > _MOST_BAD
            for index, (out, _) in alone.items():
                try:
                    out.close()
                except (ValueError, av.FFmpegError) as error:
                    what = refused.setdefault(index, Refused(reason=_words(error)))
                    what.is_whole = True
                else:
                    what = refused.get(index)
                    if what is not None and len(what.packets) * _BAD_SHARE > counts[index]:
                        what.is_whole = True
        return refused

    def report(self, refused: Mapping[int, Refused]) -> list[str]:
        """A few words on each stream of which something was refused."""
        with self.open() as original:
            return [
                f"the {describe(original.streams[index])} is left out ({what.reason})"
                if what.is_whole
                else f"{len(what.packets)} damaged packet{'s' * (len(what.packets) > 1)} of the "
                f"{describe(original.streams[index])} left out ({what.reason})"
                for index, what in sorted(refused.items())
            ]


def describe(stream: av.stream.Stream) -> str:
    """A stream in words: its kind, number and codec."""
    codec = stream.codec_context
    name = codec.name if codec is not None else getattr(stream, "name", None) or "unknown codec"
    kind = "cover picture" if _is_cover(stream) else f"{stream.type} stream"
    return f"{kind} {stream.index}, {name}"


def packet_time(packet: av.Packet) -> Fraction:
    """Decoding time in seconds; a packet without one goes first."""
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(0) if time is None else time * packet.time_base


@contextmanager
def muxer(
    file: Any, format: str, options: Mapping[str, str] | None = None
) -> Iterator[av.container.OutputContainer]:
    """An output container that is closed afterwards; errors from closing after a failure are ignored."""
    out = av.open(file, "w", format=format, container_options=dict(options or {}))
    try:
        yield out
        out.close()
    except BaseException:
        with suppress(ValueError, OSError):  # errors of FFmpeg are either
            out.close()
        raise


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing but its position."""

    def __init__(self):
        super().__init__()
        self._at = self._size = 0

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or "not supported"


def _is_cover(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _heads(original: av.container.InputContainer, replaced: int) -> dict[int, list[av.Packet]]:
    """The first packets of each stream but ``replaced``."""
    heads: dict[int, list[av.Packet]] = defaultdict(list)
    wanted = [s for s in original.streams if s.index != replaced and s.type != "attachment"]
    read = looked_at = 0
    if not wanted:
        return heads
    try:
        for packet in original.demux(list(original.streams)):
            looked_at, read = looked_at + 1, read + packet.size
            if packet.size and packet.stream_index != replaced and len(heads[packet.stream_index]) < _TRIED:
                heads[packet.stream_index].append(packet)
            enough = all(len(heads[s.index]) >= (1 if _is_cover(s) else _TRIED) for s in wanted)
            if enough or looked_at >= _LOOKED_AT or read >= _LOOKED_AT_BYTES:
                break
    except av.FFmpegError as error:
        log.debug("the first packets of %s: %s", original.name, error)
    return heads


def _head_of(companions: Companions, index: int) -> list[av.Packet]:
    with companions.open() as original:
        return _heads(original, companions.replaced)[index]


def _rewritten(
    template: av.stream.Stream, original: av.container.InputContainer, head: list[av.Packet]
) -> bool:
    """Whether a stream is MOV's or MP4's form of chapters or a time code, which the muxer writes from tags."""
    if template.type != "data":
        return False
    chapters = original.chapters()
    # FFmpeg hands out no packets of a list of chapters; telemetry may have as many packets, but has some.
    return "timecode" in template.metadata or (
        bool(chapters) and template.frames == len(chapters) and not head
    )


def _add(out: av.container.OutputContainer, template: av.stream.Stream) -> av.stream.Stream:
    """A stream like ``template``, for packets that are not recoded, with its tags."""
    try:
        # Unchanged: PyAV would look for an encoder by the name of the decoder, and many have none.
        stream = out.add_stream_from_template(template, opaque=True)
    except ValueError:
        stream = _add_by_force(out, template)
    context = stream.codec_context
    if (
        template.type == "audio"
        and context is not None
        and context.layout.name == f"{context.channels} channels"
    ):
        # The speaker layout is unknown, but MP4 needs one; players assume the usual one, too.
        with suppress(ValueError):  # of 0 or of very many there are none
            context.layout = f"{context.channels}c"
    stream.metadata.update(own_tags(template.metadata))
    stream.disposition = template.disposition
    return stream


def _add_by_force(out: av.container.OutputContainer, template: av.stream.Stream) -> av.stream.Stream:
    """A stream like ``template``, where PyAV's table knows less than the muxer, or PyAV has no decoder for it.

    It is added as a stream of another codec and then given its own parameters.
    """
    if template.type == "subtitle":
        stream = out.add_mux_stream("subrip" if out.format.name == "matroska" else "mov_text")
    else:
        with av.open(io.BytesIO(), "w", format="mp4") as other:
            stand_in = other.add_stream({"audio": "aac", "video": "mpeg4"}.get(template.type, template.type))
            stream = out.add_stream_from_template(stand_in, opaque=True)
    av.bitstream.BitStreamFilterContext("null", in_stream=template, out_stream=stream)
    if stream.codec_context is not None:
        stream.codec_context.codec_tag = "\0\0\0\0"  # a muxer has a name of its own for it
    stream.time_base = template.time_base
    return stream


def _attach(out: av.container.OutputContainer, template: av.stream.Stream, picture: bytes) -> None:
    """Put a cover among the attachments, where Matroska has it."""
    kind = {"mjpeg": "jpeg"}.get(template.codec_context.name, template.codec_context.name)
    suffix = {"jpeg": "jpg"}.get(kind, kind)
    name = template.metadata.get("filename", f"cover.{suffix}")
    out.add_attachment(name, template.metadata.get("mimetype", f"image/{kind}"), picture)


def _refusal(template: av.stream.Stream, head: list[av.Packet], format: str) -> str | None:
    """Why a container of ``format`` cannot hold ``template``, or None; only writing a file is conclusive."""
    sink = io.BytesIO()
    try:
        with muxer(sink, format) as trial:
            if _is_cover(template) and format == "matroska":
                if head:
                    _attach(trial, template, bytes(head[0]))
                return None if head else "it is empty"
            stream = _add(trial, template)
            trial.start_encoding()
            time = 0
            for packet in head:
                copy = av.Packet(bytes(packet))
                copy.time_base, copy.duration = packet.time_base, packet.duration
                copy.pts = copy.dts = time
                copy.is_keyframe = packet.is_keyframe
                copy.stream = stream
                trial.mux(copy)
                time += max(1, packet.duration or 0)
    except (ValueError, av.FFmpegError) as error:
        return _words(error)
    if head and template.codec_context and not _is_cover(template) and not _is_understood(sink):
        return "what comes out cannot be read again"
    if format in ("mp4", "mov") and _EMPTY_DESCRIPTION in sink.getvalue():
        return "it has no description of such data"
    return None


def _is_understood(file: io.BytesIO) -> bool:
    """Whether FFmpeg recognises the codec of the single stream in a file that it wrote itself."""
    file.seek(0)
    try:
        with av.open(file) as container:
            return len(container.streams) == 1 and container.streams[0].codec_context is not None
    except av.FFmpegError:
        return False


class _Trimmed:
    """Leaves out sound that an edit list cuts off, which a container without edit lists would play again.

    Encoder padding before the sound stays, and so does the last packet before a cut: a decoder needs them.
    """

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[int, av.Packet]]] = defaultdict(list)
        self._heard: set[int] = set()

    def audible(self, number: int, packet: av.Packet) -> list[tuple[int, av.Packet]]:
        """Return what to copy after a packet, given with its number."""
        index = packet.stream_index
        if packet.stream.type != "audio":
            return [(number, packet)]
        if packet.is_discard:
            if index not in self._heard:
                self._held[index].append((number, packet))
            return []
        self._heard.add(index)
        before = self._held.pop(index, [])
        if before and packet_time(packet) - packet_time(before[0][1]) > _PRIMING:
            before = before[-1:]
        return [*before, (number, packet)]


def _moved_to_begin(packet: av.Packet, begin: Fraction) -> bool:
    """Make ``begin`` time 0 of a packet; return whether any of it is after that. Sound is not cut within a packet."""
    if _is_cover(packet.stream):
        return True
    ticks = math.ceil(begin / packet.time_base)
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None:
        return False
    shown = packet.stream.type == "subtitle" and time + (packet.duration or 0) > ticks
    if time < ticks and not shown:
        return False
    if time < ticks:
        packet.duration -= ticks - time
        packet.pts = packet.dts = 0
        return True
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks
    return True


def _end_by(packet: av.Packet, end: Fraction | None) -> None:
    """End a subtitle with the pictures at the latest."""
    if end is not None and packet.stream.type == "subtitle" and packet.duration:
        packet.duration = min(packet.duration, max(1, math.ceil(end / packet.time_base) - packet.pts))


def _put_in_order(packet: av.Packet, last: dict[int, int]) -> None:
    """Give ``packet`` a later decoding time than the previous one of its stream, as muxers demand."""
    index, before = packet.stream_index, last.get(packet.stream_index)
    if packet.dts is None:
        packet.dts = packet.pts if packet.pts is not None else (0 if before is None else before + 1)
    if before is not None and packet.dts <= before:
        packet.dts = before + 1
    if packet.pts is None or packet.pts < packet.dts:
        packet.pts = packet.dts
    last[index] = packet.dts
