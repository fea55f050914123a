"""A look into a model during training: a picture, and statistics of its gates."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from rirn.evaluation.metrics import to_uint8
from rirn.models.deblurrer import VideoDeblurrer
from rirn.nn import ATB, Blending, watch_blending


@dataclasses.dataclass(frozen=True)
class Gates:
    """The attention maps of ATB over all frames, channels and pixels of a clip."""

    mean_prev: float
    """Mean of w~, the weight of the previous frame's blended features, in (0, 1)."""
    mean_cur: float
    """Mean of w, the weight of the current frame's features."""
    share_above_one: float
    """Share of positions where w~ + w > 1: features that are emphasised rather than attenuated."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """The result of :func:`probe`."""

    strip: np.ndarray
    """uint8 [H, 3 W, 3]: the last frame blurry, restored and sharp, side by side."""
    gates: Gates | None
    """None for a model without ATB."""


@torch.no_grad()
def probe(model: VideoDeblurrer, blurry: Tensor, sharp: Tensor) -> Probe:
    """Run a model on one clip, blurry and sharp [T, 3, H, W] in [0, 1], from its first frame."""
    training = model.training
    model.eval()
    sums: list[tuple[float, float, float]] = []

    def note(blending: Blending) -> None:
        if isinstance(blending.module, ATB):
            prev, cur = (weights.float() for weights in blending.maps())
            sums.append((prev.mean().item(), cur.mean().item(), (prev + cur > 1).float().mean().item()))

    try:
        with watch_blending(model, note):
            restored = model(blurry[None])[0]
    finally:
        model.train(training)
    strip = np.concatenate([to_uint8(clip[-1]) for clip in (blurry, restored, sharp)], 1)
    return Probe(strip, Gates(*np.mean(sums, 0).tolist()) if sums else None)
