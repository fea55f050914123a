"""Find scene cuts, after which a network's state belongs to another scene."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from operator import itemgetter

import numpy as np

# Block means of a picture, rows x columns: coarse enough that a moving camera changes them little.
GRID = (18, 32)
# A cut changes the block means by at least this many of 255 levels ...
LEAST_CHANGE = 12.0
# ... by this many times the mean change of the frames before ...
RATIO = 2.5
# ... which are this many ...
HISTORY = 12
# ... moves at least this share of the blocks to other bins of the colour histogram ...
LEAST_MOVED = 0.15
_BINS = 16
# ... and leaves another pattern behind: a flash, a fade or a change of exposure has the correlation of the old one.
MOST_ALIKE = 0.8
# Pictures darker than this are compared as if they were this bright, but brightened by no more than this, and not at all if one
# of them is blank: the last step of a fade to black is not a cut.
DARK, MOST_LIFT = 64.0, 6.0
BLANK = 1.0  # levels by which its blocks differ


class CutDetector:
    """Tells from frame to frame whether a new scene begins.

    A cut is a change of coarse block means that stands out from the changes just before it (a fast pan does
    not), comes with another distribution of colours (motion alone does not) and leaves another pattern
    of light and dark (a flash does not). Fades and dissolves are not cuts: there the old scene is still in the
    picture.

    Example:
        >>> import numpy as np
        >>> detector = CutDetector()
        >>> dark, bright = np.zeros((36, 64, 3), np.uint8), np.full((36, 64, 3), 200, np.uint8)
        >>> [detector(frame) for frame in (dark, dark, bright, bright)]
        [False, False, True, False]
    """

    def __init__(self):
        self._last: np.ndarray | None = None
        self._changes: deque[float] = deque(maxlen=HISTORY)

    def __call__(self, rgb: np.ndarray) -> bool:  # uint8 or uint16 [H, W, 3]
        """Whether ``rgb`` is the first frame of a new scene; the very first frame does not count."""
        means = _block_means(rgb)
        last, self._last = self._last, means
        if last is None or last.shape != means.shape:
            return False
        lift = _lift(last, means)
        before, now = lift * last, lift * means
        change = float(np.abs(now - before).mean())
        # At the beginning of a scene its speed is unknown.
        usual = sum(self._changes) / len(self._changes) if self._changes else LEAST_CHANGE
        is_cut = (
            change > max(LEAST_CHANGE, RATIO * usual)
            and _moved(before, now) > LEAST_MOVED
            and _alike(before, now) < MOST_ALIKE
        )
        if is_cut:
            self._changes.clear()  # the new scene may move more or less
        else:
            self._changes.append(change)
        return is_cut

    def state_dict(self) -> tuple:
        """Return what the detector remembers, as plain numbers, for ``load_state_dict``."""
        return (None if self._last is None else self._last.tolist(), list(self._changes))

    def load_state_dict(self, state: tuple) -> None:
        """Continue from what ``state_dict`` returned."""
        last, changes = state
        self._last = None if last is None else np.array(last)
        self._changes = deque(changes, maxlen=HISTORY)


def split_scenes(frames: Iterable[np.ndarray]) -> Iterator[Iterator[np.ndarray]]:
    """Group consecutive frames, uint8 or uint16 [H, W, 3], without a cut within a group; consume a group fully before the
    next one."""
    detector = CutDetector()
    cuts, frames = itertools.tee(frames)
    scenes = itertools.accumulate(map(detector, cuts))
    return (
        map(itemgetter(1), group)
        for _, group in itertools.groupby(zip(scenes, frames, strict=True), itemgetter(0))
    )


def _block_means(rgb: np.ndarray) -> np.ndarray:
    """float64 [rows, columns, 3] in 0..255."""
    height, width = rgb.shape[:2]
    rows, columns = min(GRID[0], height), min(GRID[1], width)
    tall, wide = height // rows, width // columns
    part = rgb[: rows * tall, : columns * wide]
    # Whole lines first: numpy takes twelve times as long for the mean over both axes at once.
    lines = np.add.reduce(part.reshape(rows, tall, columns * wide * 3), axis=1, dtype=np.uint32)
    means = lines.reshape(rows, columns, wide, 3).sum(axis=2) / (tall * wide)
    return means if rgb.dtype == np.uint8 else means / 257


def _moved(a: np.ndarray, b: np.ndarray) -> float:
    """Share of blocks, averaged over channels, that are in other bins of the histogram, 0 to 1."""
    total = 0
    for channel in range(3):
        counts = [np.histogram(m[..., channel], _BINS, (0, 256))[0] for m in (a, b)]
        total += int(np.abs(counts[0] - counts[1]).sum())
    return total / (2 * a.size)


def _lift(a: np.ndarray, b: np.ndarray) -> float:
    """Factor by which to brighten two pictures, 1 if they are bright enough."""
    if min(a.std(), b.std()) < BLANK:
        return 1.0
    return min(MOST_LIFT, max(1.0, DARK / max(1.0, a.mean(), b.mean())))


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of the patterns of two pictures, -1 to 1, whatever their brightness and contrast; 0 for a blank one."""
    a, b = a - a.mean(axis=(0, 1)), b - b.mean(axis=(0, 1))
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size else 0.0
