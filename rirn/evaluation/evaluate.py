"""Scores of a model on sequences with known truth."""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rirn.data.images import read_image, write_png
from rirn.data.parallel import map_ahead
from rirn.data.sequences import Sequence, check_alike
from rirn.errors import RirnError
from rirn.evaluation.metrics import psnr, ssim, to_uint8
from rirn.evaluation.protocols import PROTOCOLS, Protocol
from rirn.models.deblurrer import VideoDeblurrer


@dataclasses.dataclass(frozen=True)
class FrameScore:
    """Scores of one frame, for the blurry input and the model's output."""

    frame: str
    """Stem of the file."""
    psnr_in: float
    psnr_out: float
    ssim_in: float | None = None
    ssim_out: float | None = None


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean over the scored frames of one sequence, for the blurry input and the model's output."""

    sequence: str
    frames: int
    """Number of scored frames."""
    psnr_in: float
    psnr_out: float
    ssim_in: float | None = None
    ssim_out: float | None = None
    per_frame: tuple[FrameScore, ...] = ()


def evaluate(
    model: VideoDeblurrer,
    sequences: Iterable[Sequence],
    *,
    protocol: str = "rirn",
    with_ssim: bool = False,
    workers: int = 0,
    save_to: Path | None = None,
) -> Iterator[Score]:
    """Yield the PSNR in dB and, on request, the SSIM of each sequence in turn.

    Args:
        model: on its device, in evaluation mode.
        sequences: each is restored with a fresh state.
        protocol: ``"rirn"`` or ``"estrnn"``; :data:`rirn.evaluation.PROTOCOLS` defines them.
        with_ssim: also compute SSIM; needs scikit-image, and more time than a small model.
        workers: threads that compute the metrics while the model runs.
        save_to: write the scored frames as ``<sequence>/<frame>.png`` below this folder.

    Raises:
        RirnError: a frame cannot be read, differs in size from its truth, or was restored to values that are not finite; or a
            sequence is so short that none of its frames is scored.
    """
    metrics = {"psnr": psnr, "ssim": ssim} if with_ssim else {"psnr": psnr}
    for sequence in sequences:
        check_length(model, sequence, PROTOCOLS[protocol])
        folder = None if save_to is None else save_to / sequence.name
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        measure = functools.partial(_measure, sequence, metrics, folder)
        rows = tuple(map_ahead(measure, _restored(model, sequence, PROTOCOLS[protocol]), workers))
        fields = [f"{name}_{end}" for name in metrics for end in ("in", "out")]
        means = {f: float(np.mean([getattr(row, f) for row in rows])) for f in fields}
        yield Score(sequence.name, len(rows), **means, per_frame=rows)


def check_length(model: VideoDeblurrer, sequence: Sequence, protocol: Protocol) -> None:
    """Check that a sequence is long enough to be scored.

    Raises:
        RirnError: none of its frames would be.
    """
    try:
        windows = protocol.scored(len(sequence), model.lookback, model.delay)
    except RirnError as error:
        raise RirnError(f"{sequence.name}: {error}") from error
    after = model.delay if model.dropped else 0
    if not any(
        set(scored) & set(range(first + model.dropped, end - after)) for (first, end), scored in windows
    ):
        raise RirnError(
            f"{sequence.name}: the model gives no image for the first {model.dropped} and the last {after} frames, and the "
            f"sequence has only {len(sequence)}; leave it out"
        )


def _measure(
    sequence: Sequence,
    metrics: dict[str, Callable[[np.ndarray, np.ndarray], float]],
    folder: Path | None,
    restoration: tuple[int, np.ndarray, np.ndarray],
) -> FrameScore:
    """Score one frame, given as :func:`_restored` gives it, and write it to the folder."""
    number, blurry, restored = restoration
    path = sequence.sharp[number]
    truth = read_image(path)
    if truth.shape != blurry.shape:
        raise RirnError(
            f"{sequence.blurry[number]} is {blurry.shape[1]}x{blurry.shape[0]} and its truth {path} "
            f"{truth.shape[1]}x{truth.shape[0]}; a pair needs one size"
        )
    if folder is not None:
        write_png(folder / f"{path.stem}.png", restored)
    images = {"in": blurry, "out": restored}
    figures = {
        f"{name}_{end}": metric(image, truth)
        for name, metric in metrics.items()
        for end, image in images.items()
    }
    return FrameScore(path.stem, **figures)


def _restored(
    model: VideoDeblurrer, sequence: Sequence, protocol: Protocol
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield number, blurry and restored frame, uint8 [H, W, 3], of all frames to be scored."""
    for (first, end), scored in protocol.scored(len(sequence), model.lookback, model.delay):
        for number, blurry, image in _run(model, sequence, first, end):
            if number in scored:
                yield number, blurry, to_uint8(image, truncate=protocol.truncates)


@torch.inference_mode()
def _run(
    model: VideoDeblurrer, sequence: Sequence, first: int, end: int
) -> Iterator[tuple[int, np.ndarray, Tensor]]:
    """Yield number, blurry uint8 [H, W, 3] and restored frame [3, H, W] of a window, with a fresh state at its start.

    A model with look-ahead lags behind its input, and one that drops the ends leaves those frames out.
    """
    like = next(model.parameters())
    waiting: deque[tuple[int, np.ndarray]] = deque()

    def finish(image: Tensor) -> tuple[int, np.ndarray, Tensor]:
        number, blurry = waiting.popleft()
        if not image.isfinite().all():
            raise RirnError(f"the model restored {sequence.blurry[number]} to values that are not finite")
        return number, blurry, image[0]

    state = before = None
    for number in range(first, end):
        blurry = read_image(sequence.blurry[number])
        if before is not None:
            check_alike(sequence.blurry[number - 1 : number + 1], (before, blurry))
        before = blurry
        if number >= first + model.dropped:
            waiting.append((number, blurry))
        frame = torch.from_numpy(blurry).permute(2, 0, 1)[None].to(like.device, like.dtype) / 255
        image, state = model.step(frame, state)
        if image is not None:
            yield finish(image)
    for image in model.flush(state) if model.delay else []:
        yield finish(image)


def frame_mean(scores: Iterable[Score], field: str) -> float:
    """Mean of a score over all frames of all sequences, the usual single number for a data set."""
    scores = list(scores)
    return sum(getattr(s, field) * s.frames for s in scores) / sum(s.frames for s in scores)


def sequence_mean(scores: Iterable[Score], field: str) -> float:
    """Mean of a score over the means of the sequences, in which short and long ones count equally."""
    return float(np.mean([getattr(s, field) for s in scores]))
