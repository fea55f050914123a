"""Run a recurrent network tile by tile, each tile with its own state, where a whole frame does not fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from rirn.errors import RirnError
from rirn.video.memory import PROBE, free_bytes, is_out_of_memory, needed_bytes
from rirn.video.options import ALIGN, SMALLEST, checked_tile

log = logging.getLogger("rirn.video")

Box = tuple[int, int, int, int]  # top, bottom, left, right

OVERLAP = 32  # of networks at full resolution; one that works on halved frames sees twice as far
# A tile may need at most this share of the memory that is free when a video begins.
SHARE = 0.7
# Copies of a frame in fp32 that exist at the same time as the tiles.
COPIES = 5


@dataclass(frozen=True)
class TileStates:
    """States of all tiles after a frame of ``size`` (height, width)."""

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    states: tuple[Any, ...]


class Tiled:
    """A model with the same ``step`` and ``flush`` that works on overlapping tiles of the frame.

    Every tile has its own recurrent state, from the first frame to the last. Results are feathered over the
    overlap. When memory runs out, the tiles are halved, the states of the old tiles are cut to the new ones,
    and the frame is processed again. A network that averages over the whole frame sees only one tile.

    Args:
        model: ``step(frame, state) -> (sharp, state)`` with frames [1, 3, H, W]; ``delay`` and ``flush`` if it looks
            ahead.
        tile: side of the tiles in pixels, a multiple of 16, at least 64; None for whole frames; "auto" for whole
            frames if one fits into the free memory, else the largest tile that does.
        overlap: pixels that neighbouring tiles share, a multiple of 16, at most half a tile; None for 32, or 64 if the
            network works at half resolution, but no more than half a tile.

    Raises:
        ValueError: the overlap is not possible.
        RirnError: the tile is none of these; from ``step``, if even the smallest tile does not fit in memory.

    Example:
        >>> tiled = Tiled(model.eval(), tile=64)
        >>> with torch.inference_mode():
        ...     sharp, state = tiled.step(torch.rand(1, 3, 90, 160), None)
        >>> sharp.shape, len(state.boxes)
        (torch.Size([1, 3, 90, 160]), 8)
    """

    def __init__(self, model: Any, tile: int | str | None = "auto", overlap: int | None = None):
        checked_tile(tile)
        if overlap is None:
            overlap = OVERLAP * (2 if getattr(model, "half_resolution", False) else 1)
            if isinstance(tile, int):
                overlap = min(overlap, tile // 2 // ALIGN * ALIGN)
        most = tile // 2 if isinstance(tile, int) else overlap
        if overlap % ALIGN or not 0 <= overlap <= most:
            raise ValueError(
                f"the overlap must be a multiple of {ALIGN} and at most half a tile ({tile}); got {overlap}"
            )
        self._model, self._tile, self._overlap = model, tile, overlap
        self._auto = tile == "auto"
        self._size: tuple[int, int] | None = None  # for which "auto" was decided
        self._weights: dict[tuple[Box, ...], list[Tensor]] = {}

    @property
    def delay(self) -> int:
        """Frames of look-ahead of the model."""
        return getattr(self._model, "delay", 0)

    @property
    def dropped(self) -> int:
        """Frames at the start of a video that the model leaves out."""
        return getattr(self._model, "dropped", 0)

    def prepare(self, size: tuple[int, int], device: torch.device, dtype: torch.dtype) -> None:
        """Choose the tiles for frames of ``size`` (height, width) before the first one.

        On a CPU, the need of a step is the growth of the whole process, so other threads should not be working yet.
        """
        with torch.inference_mode():
            self._layout(torch.zeros(1, 3, 1, 1, device=device, dtype=dtype).expand(1, 3, *size))

    def step(
        self,
        frame: Tensor,  # [1, 3, H, W]
        state: TileStates | None,
    ) -> tuple[Tensor | None, TileStates]:  # [1, 3, H, W]
        """One step of the model on every tile."""
        if state is None:
            boxes = self._layout(frame)
            state = TileStates(tuple(frame.shape[-2:]), boxes, (None,) * len(boxes))
        elif self._auto:  # a resumed run keeps what the first one chose, also after the next cut
            self._tile, self._size = None if len(state.boxes) == 1 else _side(state.boxes), state.size
        return self._shrinking(state, lambda state: self._step(frame, state))

    def flush(self, state: TileStates) -> list[Tensor]:
        """Return the frames still to come at the end."""
        return self._shrinking(state, self._flush)

    def _shrinking(self, state: TileStates, call: Callable[[TileStates], Any]) -> Any:
        """Call with ever smaller tiles until they fit."""
        while True:
            try:
                return call(state)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Outside the handler: the error would keep alive what the failed step allocated.
            state = self._smaller(state)

    def _step(self, frame: Tensor, state: TileStates) -> tuple[Tensor | None, TileStates]:
        blend, states = _Blend(self, state), []
        for box, old in zip(state.boxes, state.states, strict=True):
            top, bottom, left, right = box
            sharp, new = self._model.step(frame[..., top:bottom, left:right].contiguous(), old)
            states.append(new)
            blend.add(sharp)
        return blend.result, TileStates(state.size, state.boxes, tuple(states))

    def _flush(self, state: TileStates) -> list[Tensor]:
        results: list[_Blend] = []
        for number, old in enumerate(state.states):
            for i, sharp in enumerate(self._model.flush(old)):
                if number == 0:
                    results.append(_Blend(self, state))
                results[i].add(sharp)
        return [blend.result for blend in results]

    def _layout(self, frame: Tensor) -> tuple[Box, ...]:
        height, width = frame.shape[-2:]
        if self._auto and self._size != (height, width):
            self._tile, self._size = self._fitting(frame), (height, width)
        side = self._tile or max(height, width)
        return boxes((height, width), side, self._overlap)

    def _fitting(self, frame: Tensor) -> int | None:
        """The largest tile that fits in the free memory; None if a whole frame does, or if it is unknown."""
        height, width = frame.shape[-2:]
        if height * width <= PROBE**2:
            return None  # not worth measuring
        free = free_bytes(frame.device)
        if free is None:
            return None
        try:
            needed = needed_bytes(self._model, frame)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return None  # not even a piece fits: halving finds what does
        if needed is None:
            return None
        step, state = needed
        if step + state <= SHARE * free:
            return None
        # Whatever the tiles: the states of all of them, before and after, and the frame, its result, their sum of weights, ...
        left = max(0, SHARE * free - 2 * state - COPIES * frame.nbytes)
        side = int((left / step * height * width) ** 0.5) // ALIGN * ALIGN
        side = max(SMALLEST + 2 * self._overlap, side)
        log.warning(
            "A frame of %dx%d needs about %.1f GB, and %.1f GB are free: working in tiles of %d pixels.",
            width,
            height,
            (step + state) / 1e9,
            free / 1e9,
            side,
        )
        return side if side < max(height, width) else None

    def _smaller(self, state: TileStates) -> TileStates:
        side = _side(state.boxes) // 2 // ALIGN * ALIGN
        height, width = state.size
        if side < SMALLEST:
            raise RirnError(
                f"A frame of {width}x{height} does not fit in memory, not even in tiles of "
                f"{_side(state.boxes)} pixels; use a smaller model, on a GPU bf16, or close other programs"
            )
        self._overlap = min(self._overlap, side // 2 // ALIGN * ALIGN)
        self._tile = side
        log.warning("Memory ran out: going on in tiles of %d pixels.", side)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return recut(state, boxes(state.size, side, self._overlap))

    def weights(self, state: TileStates, like: Tensor) -> list[Tensor]:
        """Feathered weights [1, 1, h, w] of all tiles, which add up to 1 everywhere."""
        if state.boxes not in self._weights:
            weights = [_ramps(box, state.boxes, state.size).to(like.device) for box in state.boxes]
            total = torch.zeros(1, 1, *state.size, device=like.device)
            for (top, bottom, left, right), weight in zip(state.boxes, weights, strict=True):
                total[..., top:bottom, left:right] += weight
            for (top, bottom, left, right), weight in zip(state.boxes, weights, strict=True):
                weight /= total[..., top:bottom, left:right]
            self._weights = {state.boxes: weights}
        return self._weights[state.boxes]


class _Blend:
    """Sums the feathered results of the tiles of one frame, in order."""

    def __init__(self, tiled: Tiled, state: TileStates):
        self._tiled, self._state = tiled, state
        self._next = 0
        self.result: Tensor | None = None

    def add(self, sharp: Tensor | None) -> None:
        """Take the result of the next tile; None while the delay fills."""
        index, boxes = self._next, self._state.boxes
        self._next += 1
        if sharp is None:
            return
        if len(boxes) == 1:
            self.result = sharp
            return
        top, bottom, left, right = boxes[index]
        if self.result is None:
            # fp32: rounding every partial sum to bf16 would show as seams.
            self.result = sharp.new_zeros(*sharp.shape[:-2], *self._state.size, dtype=torch.float32)
        weight = self._tiled.weights(self._state, sharp)[index]
        self.result[..., top:bottom, left:right] += sharp * weight


def _side(boxes: Sequence[Box]) -> int:
    top, bottom, left, right = boxes[0]
    return max(bottom - top, right - left)


def boxes(size: tuple[int, int], side: int, overlap: int) -> tuple[Box, ...]:
    """Tiles of at most ``side`` x ``side`` pixels that cover a frame of ``size``, row by row."""
    rows, columns = (_spans(length, side, overlap) for length in size)
    return tuple((*row, *column) for row in rows for column in columns)


def _spans(length: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of pieces of at most ``side`` that share at least ``overlap`` with the next one."""
    if length <= side:
        return [(0, length)]
    step = side - overlap
    count = 1 + -(-(length - side) // step)
    # Spread evenly and rounded up, so that the last piece is no longer than the others.
    starts = [-(-(i * (length - side)) // (count - 1) // ALIGN) * ALIGN for i in range(count)]
    return [(start, min(start + side, length)) for start in starts]


def _ramps(box: Box, all_boxes: Sequence[Box], size: tuple[int, int]) -> Tensor:
    """[1, 1, h, w]: 1 in the middle, falling linearly over what a neighbour also covers."""
    top, bottom, left, right = box
    rows = _ramp(top, bottom, sorted({b[:2] for b in all_boxes}))
    columns = _ramp(left, right, sorted({b[2:] for b in all_boxes}))
    return (rows[:, None] * columns[None, :])[None, None]


def _ramp(begin: int, end: int, spans: list[tuple[int, int]]) -> Tensor:
    weight = torch.ones(end - begin)
    index = spans.index((begin, end))
    if index > 0:
        shared = spans[index - 1][1] - begin
        weight[:shared] *= (torch.arange(shared) + 0.5) / max(shared, 1)
    if index < len(spans) - 1:
        shared = end - spans[index + 1][0]
        weight[len(weight) - shared :] *= (torch.arange(shared, 0, -1) - 0.5) / max(shared, 1)
    return weight


def recut(state: TileStates, new: tuple[Box, ...]) -> TileStates:
    """Convert the states to other tiles of the same frames.

    Every tensor [N, C, h, w] of a state is joined over the old tiles and cut for the new ones. Anything else is
    taken from the first tile.
    """
    if all(s is None for s in state.states):
        return TileStates(state.size, new, (None,) * len(new))
    flat = [tree_flatten(s) for s in state.states]
    spec = flat[0][1]
    pieces = [[] for _ in new]
    for leaves in zip(*(leaves for leaves, _ in flat), strict=True):
        stride = _stride(leaves[0], state.boxes[0])
        whole = None if stride is None else _join(leaves, state.boxes, stride)
        for piece, box in zip(pieces, new, strict=True):
            piece.append(leaves[0] if whole is None else _cut(whole, box, state.size, stride))
    return TileStates(state.size, new, tuple(tree_unflatten(piece, spec) for piece in pieces))


def _stride(leaf: Any, box: Box) -> int | None:
    """Width of a tensor element in pixels of its tile; None for what does not map onto the frame."""
    if not isinstance(leaf, Tensor) or leaf.ndim != 4:
        return None
    top, bottom, left, right = box
    # Models pad a frame by a few pixels, hence the rounding.
    down, across = round((bottom - top) / leaf.shape[-2]), round((right - left) / leaf.shape[-1])
    return down if down == across and down in (1, 2, 4, 8, 16) else None


def _join(leaves: Sequence[Tensor], boxes: Sequence[Box], stride: int) -> Tensor:
    """One tensor of the whole frame; where tiles overlap, the later one counts."""
    corners = [(top // stride, left // stride) for top, _, left, _ in boxes]
    height = max(y + leaf.shape[-2] for (y, _), leaf in zip(corners, leaves, strict=True))
    width = max(x + leaf.shape[-1] for (_, x), leaf in zip(corners, leaves, strict=True))
    whole = leaves[0].new_empty(*leaves[0].shape[:2], height, width)
    for (y, x), leaf in zip(corners, leaves, strict=True):
        whole[..., y : y + leaf.shape[-2], x : x + leaf.shape[-1]] = leaf
    return whole


def _cut(whole: Tensor, box: Box, size: tuple[int, int], stride: int) -> Tensor:
    """The part of a tile, with the padding at the edges of the frame."""
    top, bottom, left, right = box
    rows = slice(top // stride, None if bottom == size[0] else bottom // stride)
    columns = slice(left // stride, None if right == size[1] else right // stride)
    return whole[..., rows, columns].clone()
