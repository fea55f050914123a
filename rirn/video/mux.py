"""Assemble a video: restored segments and all that the source holds besides its pictures, not re-encoded."""

from __future__ import annotations

import heapq
import logging
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.companions import Companions, Refused, is_refusal, muxer, packet_time
from rirn.video.files import FORMATS, free_name, part_name, write_failures
from rirn.video.frames import VideoInfo
from rirn.video.tags import own_tags, tag_flags
from rirn.video.times import Clock

log = logging.getLogger("rirn.video")

# Packets of the other streams in a rehearsal.
_REHEARSED = 50


def assemble(
    target: Path,
    segments: Sequence[Path],
    info: VideoInfo,
    *,
    companions: Companions | None = None,
    whole: bool = True,
    rehearsal: bool = False,
) -> list[str]:
    """Write ``target`` from segments of its pictures and the other streams of a source, without re-encoding.

    Sound, subtitles, attachments, other pictures and data are copied unchanged, with chapters, tags and
    dispositions. The file is written under a hidden name and renamed at the end.

    Packets or streams that the muxer refuses are left out; if it still refuses, so is all but the
    pictures; if it refuses those, they become a file of another format beside ``target``.

    Matroska has no times below zero: where sound starts before zero, all streams move together.

    Args:
        target: file name ending in .mp4, .m4v, .mov or .mkv.
        segments: files of one encoder with the same settings, in order.
        info: the facts about the pictures.
        companions: the other streams; None for none.
        whole: False for a video that was stopped early; the other streams then end with the pictures.
        rehearsal: write only the first packets of the other streams, and remove the file.

    Returns:
        list[str]: what went wrong and was left out, a few words each.

    Raises:
        RirnError: the file cannot be written.
    """
    is_cut = companions is not None and companions.begin is not None
    parts = _Whole(target, segments, info, rehearsal or (whole and not is_cut), rehearsal)
    with write_failures(target):
        try:
            return parts.write(companions)
        except (ValueError, av.FFmpegError) as error:
            if not is_refusal(error) or (rehearsal and companions is None):
                raise
            log.debug("%s: %s", target, error)
        return _pictures_alone(parts, []) if companions is None else _what_is_taken(parts, companions)


def _what_is_taken(parts: _Whole, companions: Companions) -> list[str]:
    """Write what a muxer takes of each stream, else the pictures."""
    refused = companions.examine(parts.format, parts.end)
    try:
        return parts.write(companions, refused, companions.report(refused))
    except (ValueError, av.FFmpegError) as error:
        if not is_refusal(error):
            raise
        why = f"all but the pictures is left out, since {parts.format} refuses it ({error.strerror})"
    return _pictures_alone(parts, [why])


def _pictures_alone(parts: _Whole, problems: list[str]) -> list[str]:
    """Write the pictures, in another format if they are refused."""
    try:
        return parts.write(None, {}, problems)
    except (ValueError, av.FFmpegError) as error:
        if not is_refusal(error) or parts.is_rehearsal:
            raise
        place = free_name(parts.target.with_suffix(".mov" if parts.format == "matroska" else ".mkv"))
        why = f"{parts.target.name} cannot hold the pictures ({error.strerror}); they are in {place}"
    return replace(parts, target=place).write(None, {}, [why])


@dataclass(frozen=True)
class _Whole:
    """What ``assemble`` puts together, so that it can be tried with more or less of it."""

    target: Path
    segments: Sequence[Path]
    info: VideoInfo
    is_whole: bool
    is_rehearsal: bool

    @property
    def end(self) -> Fraction | None:
        """Where the other streams end, in seconds."""
        return None if self.is_whole else _end(self.segments[-1])

    @property
    def format(self) -> str:
        """FFmpeg's name of the format of the target."""
        return FORMATS[self.target.suffix.lower()]

    def write(
        self,
        companions: Companions | None,
        refused: Mapping[int, Refused] = MappingProxyType({}),
        problems: Sequence[str] = (),
    ) -> list[str]:
        """Write the target without what is refused; return ``problems`` and what else went wrong."""
        problems, format = list(problems), self.format
        options = muxer_options(format, self.info.time_base)
        if options:
            # The index at the front lets a browser start before it has the whole file.
            options["movflags"] = "+faststart"
            options["movflags"] += tag_flags(format, self.info.metadata)[0]
        part = part_name(self.target)
        try:
            with ExitStack() as stack:
                out = stack.enter_context(muxer(f"file:{part}", format, options))
                pictures = _pictures(self.segments, self._add_pictures(out, format))
                if companions is None:
                    for packet in pictures:
                        out.mux(packet)
                else:
                    original = stack.enter_context(companions.open())
                    self._write_both(out, pictures, original, companions, refused, problems)
            if not self.is_rehearsal:
                os.replace(part, self.target)
        finally:
            part.unlink(missing_ok=True)
        return problems

    def _add_pictures(self, out: av.container.OutputContainer, format: str) -> av.VideoStream:
        with av.open(f"file:{self.segments[0]}") as first:
            if not first.streams.video:
                raise _damaged(self.segments[0])
            template = first.streams.video[0]
            # Unchanged: PyAV would look for an encoder by the name of the decoder, and AV1's two differ.
            video = out.add_stream_from_template(template, opaque=True)
            if template.codec_context.name == "hevc" and format in ("mp4", "mov"):
                video.codec_context.codec_tag = "hvc1"  # Apple's players refuse the other name, hev1
            if self.info.display_matrix is not None:
                video.set_display_matrix(self.info.display_matrix)
        video.metadata.update(own_tags(self.info.stream_metadata))
        out.metadata.update(own_tags(self.info.metadata))
        return video

    def _write_both(self, out, pictures, original, companions, refused, problems) -> None:
        video = out.streams[0]
        video.disposition = original.streams[companions.replaced].disposition
        copies = companions.add_to(out, original, refused)
        out.set_chapters(_chapters(original, self.end, companions.begin or Fraction(0)))
        packets = companions.packets(original, copies.keys(), self.end, problems)
        others = _chosen(packets, copies, refused)
        if self.is_rehearsal:
            others = islice(others, _REHEARSED)
        for packet in heapq.merge(pictures, others, key=packet_time):
            out.mux(packet)


def _chosen(
    packets: Iterator[tuple[int, int, av.Packet]],
    copies: Mapping[int, av.stream.Stream],
    refused: Mapping[int, Refused],
) -> Iterator[av.Packet]:
    """Packets for their new streams, without those that a muxer refused."""
    for index, number, packet in packets:
        if index not in refused or number not in refused[index].packets:
            packet.stream = copies[index]
            yield packet


def _pictures(segments: Sequence[Path], stream: av.VideoStream) -> Iterator[av.Packet]:
    """Yield packets of all segments with decoding times that continue from one to the next.

    A segment begins with the delay of its B-frames, which with uneven frames can lie before the end of the
    previous one. Decoding times are therefore set anew: all presentation times in order, ``delay`` packets late.
    """
    delay = max(_delay(path) for path in segments)
    times: deque[int] = deque()
    held: av.Packet | None = None
    for number, path in enumerate(segments):
        with av.open(f"file:{path}") as container:
            shown = _shown(container)
            if number == 0:
                times.extend(_lead(shown, delay))
                first_shown, first_dts = shown[0], (times or shown)[0]
            times.extend(shown)
            container.seek(0)
            for packet in container.demux(video=0):
                if not packet.size:
                    continue
                packet.dts = times.popleft()
                packet.stream = stream
                if held is not None:
                    held.duration = packet.dts - held.dts
                    yield held
                held = packet
            end = _end_ticks(container)
    # Muxers add the duration of the last packet in coding order to its decoding time; with B-frames that is
    # not the frame shown last.
    held.duration = max(0, end - first_shown - (held.dts - first_dts))
    yield held


def _shown(container: av.container.InputContainer) -> list[int]:
    """Presentation times of all pictures in order."""
    return sorted(p.pts for p in container.demux(video=0) if p.size)


def decoding_times(pts: Sequence[int]) -> list[int]:
    """Decoding times of pictures given by their presentation times in decoding order."""
    shown = sorted(pts)
    return [*_lead(shown, _reordering(pts)), *shown][: len(pts)]


def _lead(shown: Sequence[int], delay: int) -> list[int]:
    """Decoding times of the first ``delay`` packets, before anything is shown."""
    if len(shown) > delay:  # as x264 counts
        return [shown[0] - shown[delay] + shown[i] for i in range(delay)]
    return [shown[0] - delay + i for i in range(delay)]


def _damaged(segment: Path) -> RirnError:
    return RirnError(f"{segment} is damaged; delete its folder to start again")


def _reordering(pts: Sequence[int]) -> int:
    """The most packets by which the decoding of a picture precedes its turn to be shown."""
    rank = {time: i for i, time in enumerate(sorted(pts))}
    return max(i - rank[time] for i, time in enumerate(pts))


def check_segment(path: Path) -> None:
    """Raise RirnError if a segment cannot be part of the whole."""
    _delay(path)


def _delay(path: Path) -> int:
    try:
        with av.open(f"file:{path}") as container:
            pts = [p.pts for p in container.demux(video=0) if p.size] if container.streams.video else []
    except av.FFmpegError as error:
        raise _damaged(path) from error
    if not pts or None in pts:
        raise _damaged(path)
    return _reordering(pts)


def _end_ticks(container: av.container.InputContainer) -> int:
    """When the last picture of a segment ends, in the time base of its stream."""
    stream = container.streams.video[0]
    if stream.duration:
        return (stream.start_time or 0) + stream.duration
    container.seek(0)
    return max(p.pts + (p.duration or 0) for p in container.demux(stream) if p.size)


def _end(segment: Path) -> Fraction:
    """When the pictures end, in seconds."""
    with av.open(f"file:{segment}") as container:
        return _end_ticks(container) * container.streams.video[0].time_base


def _chapters(original: av.container.InputContainer, end: Fraction | None, begin: Fraction) -> list[dict]:
    """The chapters of a source from ``begin`` on, which becomes 0, those after ``end`` left out."""
    origin = Clock(original).origin + begin
    chapters = []
    for chapter in original.chapters():
        moved = round(origin / chapter["time_base"])
        first, last = chapter["start"] - moved, chapter["end"] - moved
        if begin and last <= 0:
            continue
        chapter = {**chapter, "start": max(0, first) if begin else first, "end": last}
        if end is None or chapter["start"] * chapter["time_base"] < end:
            if begin and end is not None:
                chapter["end"] = min(last, round(end / chapter["time_base"]))
            chapters.append(chapter)
    return chapters


def muxer_options(format: str, time_base: Fraction) -> dict[str, str]:
    """Options that keep the muxers of MP4 and MOV from rounding times that count in ``time_base``."""
    if format not in ("mp4", "mov"):
        return {}
    # In milliseconds, the default, the time of the first frame would be rounded.
    options = {"movie_timescale": str(time_base.denominator)}
    if time_base.numerator == 1:
        # The muxer would choose a multiple: same times, other numbers.
        options["video_track_timescale"] = str(time_base.denominator)
    return options
