"""Scores of a model on sequences with known truth."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from rirn.data.images import read_image
from rirn.data.sequences import Sequence
from rirn.evaluation.metrics import psnr, ssim, to_uint8
from rirn.models.deblurrer import VideoDeblurrer


@dataclasses.dataclass(frozen=True)
class Score:
    """Mean over the frames of one sequence, of the blurry input and of the model's output."""

    sequence: str
    frames: int
    psnr_in: float
    psnr_out: float
    ssim_in: float | None = None
    ssim_out: float | None = None


def evaluate(
    model: VideoDeblurrer, sequences: Iterable[Sequence], *, with_ssim: bool = False
) -> Iterator[Score]:
    """Run each sequence whole, with a fresh state at its first frame and no reset inside.

    PSNR in dB and, if asked, SSIM, per frame and then averaged over the frames; see :mod:`rirn.evaluation.metrics`.
    """
    metrics = [psnr, ssim] if with_ssim else [psnr]
    for sequence in sequences:
        rows = []
        for blurry, restored, truth in _restored(model, sequence):
            rows.append([metric(image, truth) for metric in metrics for image in (blurry, restored)])
        yield Score(sequence.name, len(sequence), *np.mean(rows, axis=0).tolist())


@torch.inference_mode()
def _restored(
    model: VideoDeblurrer, sequence: Sequence
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Blurry, restored and true frame after each other, uint8 [H, W, 3]; a model with look-ahead lags behind its input."""
    like = next(model.parameters())
    state, waiting = None, deque()
    for blurry_path, sharp_path in zip(sequence.blurry, sequence.sharp, strict=True):
        blurry = read_image(blurry_path)
        waiting.append((blurry, read_image(sharp_path)))
        frame = torch.from_numpy(blurry).permute(2, 0, 1)[None].to(like.device, like.dtype) / 255
        sharp, state = model.step(frame, state)
        if sharp is not None:
            blurry, truth = waiting.popleft()
            yield blurry, to_uint8(sharp[0]), truth
    for sharp in model.flush(state) if model.delay else []:
        blurry, truth = waiting.popleft()
        yield blurry, to_uint8(sharp[0]), truth


def frame_mean(scores: Iterable[Score], field: str) -> float:
    """Mean of a figure over all frames of all sequences, the usual way to state one number for a data set."""
    scores = list(scores)
    return sum(getattr(s, field) * s.frames for s in scores) / sum(s.frames for s in scores)
