"""Time stamps that continue where the clock of a file restarts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from rirn.video import pyav as av

# How far times may step back before it means that the clock did, not that two packets are out of order.
_DISORDER = Fraction(1, 10)
# How far the clock of a broadcast may jump ahead before it is another clock; in other files a gap is a gap.
_GAP = 10
# A file that counts from 0 may begin this late; one that begins later was cut from something with its own clock.
_LATE = 60
# Packets by which time stamps are judged, one repeated stamp of how many is an accident, formats that know when a
# picture is decoded and not when it is shown, and frames per second that no camera has.
_LOOKED_AT, _LOOKED_AT_BYTES = 500, 64 << 20
_FEW = 8
_WITHOUT_SHOWN = ("avi", "nuv")
_HIGHEST_RATE = 1000


class Clock:
    """Shifts the times of a file's packets, so that they continue across jumps of its clock and begin near 0.

    Recordings joined end to end restart at their first time; broadcasts jump. Pictures and sound tell where:
    all packets after such a jump are shifted by the same time, so they stay in sync. Reading the same file again
    gives the same times.

    Args:
        container: the file, from which no packet has been read yet.
    """

    def __init__(self, container: av.container.InputContainer):
        self.steps = 0
        self._is_broadcast = bool(av.format.Flags.ts_discont & av.format.Flags(container.format.flags))
        self.origin = self._origin(container)
        self._shift = -self.origin  # of what follows the last step
        self._shifts: dict[int, Fraction] = {}  # of each stream, which may still be before the step
        self._last: dict[int, Fraction] = {}
        self._next: dict[int, Fraction] = {}  # where each stream goes on
        self._timed = {s.index for s in timed_streams(container)}

    def _origin(self, container: av.container.InputContainer) -> Fraction:
        starts = [s.start_time * s.time_base for s in timed_streams(container) if s.start_time is not None]
        origin = min(starts, default=Fraction(0))
        if self._is_broadcast or origin > _LATE:
            return origin
        # Sound may begin below 0, with samples that a decoder needs but does not play; pictures there would be hidden.
        pictures = [s.start_time * s.time_base for s in _moving(container) if s.start_time is not None]
        return min([Fraction(0), *pictures])

    def place(self, packet: av.Packet) -> None:
        """Shift ``packet``; call it for all packets of ``timed_streams`` in the order of the file."""
        index = packet.stream_index
        shift = self._watch(packet) if index in self._timed else self._shift
        if shift:
            ticks = round(shift / packet.time_base)
            if packet.pts is not None:
                packet.pts += ticks
            if packet.dts is not None:
                packet.dts += ticks

    def _watch(self, packet: av.Packet) -> Fraction:
        index, ticks = packet.stream_index, packet.dts  # times to show pictures at go back and forth
        shift = self._shifts.get(index, self._shift)
        if ticks is None:
            return shift
        raw, last, expected = ticks * packet.time_base, self._last.get(index), self._next.get(index)
        if last is not None:
            if abs(raw + self._shift - expected) < abs(raw + shift - expected):
                shift = self._shift  # another stream saw the step before
            time = raw + shift
            if time < last - _DISORDER or (self._is_broadcast and time > expected + _GAP):
                # If the streams end at very different times, what follows comes after the longest.
                end = max(self._next.values())
                shift = self._shift = (end if end > expected + _DISORDER else expected) - raw
                self.steps += 1
        time = raw + shift
        step = packet.duration * packet.time_base if packet.duration else Fraction(0)
        if not step and last is not None:
            step = max(Fraction(0), time - last)
        self._shifts[index], self._last[index], self._next[index] = shift, time, time + step
        return shift


def even_rate(path: Path, index: int) -> tuple[Fraction, str] | None:
    """Frames per second to count with if the time stamps of a video stream cannot be trusted, and why not.

    None if they can, or if there are none, judged by the first packets of the file.
    """
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams[index]
        shown: list[int] = []
        clock, read = Clock(container), 0
        try:
            for packet in container.demux(timed_streams(container)):
                if packet.size:
                    clock.place(packet)  # of files joined end to end, each begins with the same stamps
                    if packet.stream_index == index and packet.pts is not None:
                        shown.append(packet.pts)
                read += packet.size
                if len(shown) >= _LOOKED_AT or read >= _LOOKED_AT_BYTES:
                    break
        except av.FFmpegError:
            return None  # said when it is read
        count = len(shown)
        if count < 3:
            return None
        seconds = (max(shown) - min(shown)) * stream.time_base
        reorders = container.format.name in _WITHOUT_SHOWN and getattr(
            stream.codec_context, "has_b_frames", 0
        )
        if (count - len(set(shown))) * _FEW > count:
            reason = "many repeat"
        elif (count - 1) > seconds * _HIGHEST_RATE:
            reason = "they are too close together"
        elif reorders and shown == sorted(shown):
            reason = f"{container.format.name.upper()} has none for B-frames"
        else:
            return None
        rates = (stream.guessed_rate, stream.average_rate, stream.codec_context.framerate)
        return next((Fraction(r) for r in rates if r and r <= _HIGHEST_RATE), Fraction(25)), reason


def _moving(container: av.container.InputContainer) -> list[av.stream.Stream]:
    return [s for s in timed_streams(container) if s.type == "video"]


def timed_streams(container: av.container.InputContainer) -> list[av.stream.Stream]:
    """Video and sound streams, whose packets come without gaps."""
    return [
        s
        for s in container.streams
        if s.type in ("video", "audio") and not s.disposition & av.stream.Disposition.attached_pic
    ]
