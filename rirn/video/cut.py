"""A part of a video, by its times or number of frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from rirn.errors import RirnError


@dataclass(frozen=True)
class Cut:
    """The frames shown from ``start`` on, for ``duration``, and at most ``frames`` of them; by default all.

    Args:
        start: seconds from the beginning of the video.
        duration: seconds; None for the rest.
        frames: largest number of frames; None for all.

    Raises:
        RirnError: a value is not possible.
    """

    start: Fraction = Fraction(0)
    duration: Fraction | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0:
            raise RirnError(f"A start at {float(self.start):g} s is not possible; give 0 or more")
        if self.duration is not None and self.duration <= 0:
            raise RirnError(f"A duration of {float(self.duration):g} s is not possible; give more than 0")
        if self.frames is not None and self.frames < 1:
            raise RirnError(f"The number of frames must be at least 1, not {self.frames}")

    @property
    def is_all(self) -> bool:
        """Whether nothing is cut off."""
        return not self.start and self.duration is None and self.frames is None

    @property
    def end(self) -> Fraction | None:
        """When it ends by its times, in seconds; None at the end of the video."""
        return None if self.duration is None else self.start + self.duration

    def is_over(self, time: Fraction, count: int) -> bool:
        """Whether a frame shown at ``time``, after ``count`` frames of the part, is beyond it."""
        return (self.end is not None and time >= self.end) or (
            self.frames is not None and count >= self.frames
        )

    def expected(self, frames: int | None, rate: Fraction) -> int | None:
        """How many frames the part has, for a video with that many evenly spaced frames."""
        known = [] if frames is None else [max(1, frames - math.ceil(self.start * rate))]
        if self.duration is not None:
            known.append(max(1, math.ceil(self.duration * rate)))
        if self.frames is not None:
            known.append(self.frames)
        return min(known, default=None)

    def settings(self) -> dict[str, object]:
        """The cut as plain values by name; empty if nothing is cut off."""
        values = {"start": self.start or None, "duration": self.duration, "frames": self.frames}
        return {name: str(value) for name, value in values.items() if value is not None}


ALL = Cut()
