"""Put a video together: restored segments and all that the source holds beside its pictures, not recoded."""

from __future__ import annotations

import heapq
import io
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.files import FORMATS, part_name, write_failures
from rirn.video.frames import VideoInfo

log = logging.getLogger("rirn.video")

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


def assemble(
    target: Path,
    segments: Sequence[Path],
    info: VideoInfo,
    *,
    source: Path | None = None,
    replaced: int | None = None,
    whole: bool = True,
) -> None:
    """Write `target` from segments of its pictures and the other streams of `source`, without recoding.

    Sound, subtitles, attachments, further pictures and data come along as they are, with chapters, tags and
    dispositions. A stream that the format cannot hold is left out with a warning. The file grows under a
    hidden name and takes its own at the end.

    Matroska has no times below zero: where sound starts before zero, all streams move together.

    Args:
        target: file name ending in .mp4, .m4v, .mov or .mkv.
        segments: files of one encoder with the same settings, in order.
        info: the facts of the pictures.
        source: the file whose other streams come along; None where there is none.
        replaced: index of the stream of `source` that the segments replace.
        whole: False for a video that was stopped early; the other streams then end with the pictures.

    Raises:
        RirnError: the file cannot be written.
    """
    part = part_name(target)
    try:
        with write_failures(target):
            _write(part, FORMATS[target.suffix.lower()], target, segments, info, source, replaced, whole)
            os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def _write(part, format, target, segments, info, source, replaced, whole) -> None:
    options = muxer_options(format, info.time_base)
    if options:
        # The index at the front lets a browser start before it has the whole file.
        options["movflags"] = "+faststart"
    with (
        av.open(f"file:{part}", "w", format=format, container_options=options) as out,
        av.open(f"file:{segments[0]}") as first,
    ):
        if not first.streams.video:
            raise _damaged(segments[0])
        template = first.streams.video[0]
        # As it is: PyAV would look for an encoder by the name of the decoder, and AV1's two differ.
        video = out.add_stream_from_template(template, opaque=True)
        if template.codec_context.name == "hevc" and format in ("mp4", "mov"):
            video.codec_context.codec_tag = "hvc1"  # Apple's players refuse the other name, hev1
        video.metadata.update(own_tags(info.stream_metadata))
        out.metadata.update(own_tags(info.metadata))
        pictures = _pictures(segments, video)
        if source is None:
            for packet in pictures:
                out.mux(packet)
            return
        with av.open(f"file:{source}", metadata_errors="replace") as original:
            video.disposition = original.streams[replaced].disposition
            copies = _add_copies(out, original, replaced, format, target.name)
            end = None if whole else _end(segments[-1])
            out.set_chapters(_chapters(original, end))
            others = _others(original, copies, end)
            for packet in heapq.merge(pictures, others, key=_time):
                out.mux(packet)


def _pictures(segments: Sequence[Path], stream: av.VideoStream) -> Iterator[av.Packet]:
    """Packets of all segments with decoding times that go on from one to the next.

    A segment begins with the delay of its B-frames, which with uneven frames can lie before the end of the
    one before. Decoding times are therefore given anew: all presentation times in order, `delay` packets late.
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
    """Decoding times of the first `delay` packets, before anything is shown."""
    if len(shown) > delay:  # as x264 counts
        return [shown[0] - shown[delay] + shown[i] for i in range(delay)]
    return [shown[0] - delay + i for i in range(delay)]


def _damaged(segment: Path) -> RirnError:
    return RirnError(f"{segment} is damaged; delete its folder to start again.")


def _reordering(pts: Sequence[int]) -> int:
    """By how many packets the decoding of a picture goes ahead of its turn to be shown, at most."""
    rank = {time: i for i, time in enumerate(sorted(pts))}
    return max(i - rank[time] for i, time in enumerate(pts))


def _delay(path: Path) -> int:
    with av.open(f"file:{path}") as container:
        pts = [p.pts for p in container.demux(video=0) if p.size] if container.streams.video else []
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


def _others(
    original: av.container.InputContainer, copies: dict[int, av.stream.Stream], end: Fraction | None
) -> Iterator[av.Packet]:
    """Packets of the streams to copy, those from `end` on left out."""
    if not copies:
        return
    packets = original.demux([s for s in original.streams if s.index in copies])
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            return  # a broken input: the pictures ended here, too
        if packet is None:
            return
        if packet.size and (end is None or _time(packet) < end):
            packet.stream = copies[packet.stream_index]
            yield packet


def _time(packet: av.Packet) -> Fraction:
    """Decoding time in seconds; a packet without one goes first."""
    time = packet.dts if packet.dts is not None else packet.pts
    return Fraction(0) if time is None else time * packet.time_base


def _add_copies(
    out: av.container.OutputContainer,
    original: av.container.InputContainer,
    replaced: int,
    format: str,
    name: str,
) -> dict[int, av.stream.Stream]:
    copies = {}
    for template in original.streams:
        if template.index == replaced or _rewritten(template, original):
            continue
        reason = _refusal(template, format)
        if reason is not None:
            log.warning(
                "%s cannot hold the %s stream %d (%s) and goes without it; an .mkv can hold most.",
                name,
                template.type,
                template.index,
                reason,
            )
            continue
        stream = out.add_stream_from_template(template)
        stream.metadata.update(own_tags(template.metadata))
        stream.disposition = template.disposition
        copies[template.index] = stream
    return copies


def _rewritten(template: av.stream.Stream, original: av.container.InputContainer) -> bool:
    """Whether a stream is how MOV and MP4 store chapters or a time code, which the muxer writes from tags."""
    if template.type != "data":
        return False
    chapters = original.chapters()
    return "timecode" in template.metadata or (bool(chapters) and template.frames == len(chapters))


def _refusal(template: av.stream.Stream, format: str) -> str | None:
    """Why a container of `format` cannot hold `template`, or None; only writing a header tells for sure."""
    codec = template.codec_context
    name = codec.name if codec is not None else getattr(template, "name", None) or "unknown codec"
    try:
        with av.open(io.BytesIO(), "w", format=format) as trial:
            trial.add_stream_from_template(template)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return name
    return None


def _chapters(original: av.container.InputContainer, end: Fraction | None) -> list[dict]:
    """The chapters of a source, those after `end` left out."""
    chapters = original.chapters()
    return [c for c in chapters if end is None or c["start"] * c["time_base"] < end]


def muxer_options(format: str, time_base: Fraction) -> dict[str, str]:
    """What keeps the muxers of MP4 and MOV from rounding times that count in `time_base`."""
    if format not in ("mp4", "mov"):
        return {}
    # In milliseconds, the default, the time of the first frame would be rounded.
    options = {"movie_timescale": str(time_base.denominator)}
    if time_base.numerator == 1:
        # The muxer would choose a multiple: same times, other numbers.
        options["video_track_timescale"] = str(time_base.denominator)
    return options


def own_tags(tags: dict[str, str]) -> dict[str, str]:
    """The tags that are about the content, without those about its coding (Matroska adds statistics)."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _TECHNICAL_TAGS
        and not key.upper().startswith(("_STATISTICS", "NUMBER_OF", "DURATION", "BPS"))
    }
