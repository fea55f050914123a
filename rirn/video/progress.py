"""Progress of a run: a bar on a terminal, lines of JSON for programs, and an estimate before a long one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

# Frames and seconds after which the speed is known well enough, and minutes from which it is worth a line.
_FIRST_FRAMES, _FIRST_SECONDS = 5, 3
_LONG = 60


class Progress:
    """Counts frames and reports them.

    Args:
        how: "bar" for a bar if stderr is a terminal, and an estimate of a long run in any case; "json" for a line
            with ``frame``, ``of``, ``fps`` and ``eta`` (seconds) every second; "off".
        total: expected number of frames, None if unknown.
        done: frames from an earlier run.
        name: name of what is restored.
        clock: returns seconds.
        file: where to write.
    """

    def __init__(
        self,
        how: str,
        total: int | None,
        done: int = 0,
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        file: TextIO | None = None,
    ):
        self._how, self._total, self._before, self._name = how, total, done, name
        self._clock, self._file = clock, file if file is not None else sys.stderr
        self._frame, self._started = done, clock()
        self._first: float | None = None  # when the first frame was done, which includes all one-time work
        self._said = self._started
        self._has_estimated = how != "bar"
        disable = None if how == "bar" else True
        self._bar = tqdm(
            total=total, initial=done, unit="frame", file=self._file, disable=disable, dynamic_ncols=True
        )

    def update(self) -> None:
        """Count one more frame."""
        self._frame += 1
        self._bar.update()
        now = self._clock()
        if self._first is None:
            self._first = now
        if not self._has_estimated:
            self._estimate(now)
        if self._how == "json" and now - self._said >= 1:
            self._say(now)

    def _speed(self, now: float) -> float:
        count, since = self._frame - self._before, self._started
        if count > 1 and self._first is not None and now > self._first:
            count, since = count - 1, self._first
        return count / max(now - since, 1e-9)

    def _estimate(self, now: float) -> None:
        count = self._frame - self._before
        if count < _FIRST_FRAMES or now - self._started < _FIRST_SECONDS:
            return
        self._has_estimated = True
        if self._total is None:
            return
        fps = self._speed(now)
        seconds = (self._total - self._frame) / fps
        if seconds >= _LONG:
            self._bar.write(
                f"{self._name}: {self._total} frames, about {_duration(seconds)} at {fps:.2g} frames/s",
                file=self._file,
            )

    def _say(self, now: float) -> None:
        self._said, fps = now, self._speed(now)
        eta = None if self._total is None else round(max(0, self._total - self._frame) / fps, 1)
        facts = {"frame": self._frame, "of": self._total, "fps": round(fps, 3), "eta": eta}
        print(json.dumps(facts), file=self._file, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        if self._how == "json" and self._frame > self._before:
            self._total = self._total if self._total and self._frame < self._total else self._frame
            self._say(self._clock())


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} hours"
