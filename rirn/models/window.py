"""Neighbouring frames that a network reads together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from rirn.errors import RirnError


@dataclasses.dataclass(frozen=True)
class Window:
    """A moving window over the frames of a video, or over their features, that keeps what it needs in a
    cache.

    The caller holds the cache; the number of tensors in it tells how far the first window has filled.
    """

    past: int = 0
    """Items before the current one."""
    future: int = 0
    """Items after it: the delay in frames."""
    repeat_ends: bool = True
    """Repeat the first and the last item of a video, so that every item gets a window; otherwise the first
    ``past`` and the last ``future`` items get none."""

    @property
    def size(self) -> int:
        return self.past + 1 + self.future

    def slide(
        self, cache: tuple[Tensor, ...], items: Sequence[Tensor], end: bool
    ) -> tuple[list[tuple[Tensor, ...]], tuple[Tensor, ...]]:
        """Return the windows that ``items`` complete, oldest first, and the cache for the next call.

        Args:
            cache: from the previous call; empty at the start of a video.
            items: the new items, in order; may be empty.
            end: the video ends here.
        """
        row = [*cache, *items]
        if self.repeat_ends and row:
            if not cache:
                row[:0] = row[:1] * self.past
            if end:
                row += row[-1:] * self.future
        windows = [tuple(row[i : i + self.size]) for i in range(len(row) - self.size + 1)]
        kept = self.size - 1
        return windows, tuple(row[-kept:]) if kept else ()


def repeat_ends(ends: str) -> bool:
    """Translate the option ``ends`` of a model: ``"replicate"`` or ``"drop"``.

    Raises:
        RirnError: it is neither.
    """
    if ends not in ("replicate", "drop"):
        raise RirnError(f"ends must be 'replicate' or 'drop'; got {ends!r}")
    return ends == "replicate"
