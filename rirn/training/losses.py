"""What a training run makes small."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-4
"""Mean squared error below which :func:`psnr_loss` stops to care, 40 dB: two images alike to the eye."""

PSNR_SCALE = 0.02
"""Brings the gradient of :func:`psnr_loss` near the size of L1's, so that one ``clip_norm`` suits both."""


def l1_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute error over all pixels; images [N, T, 3, H, W] in [0, 1]."""
    return F.l1_loss(restored, sharp)


def psnr_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean over the frames of ``0.02 log(mse + 1e-4)``; images [N, T, 3, H, W] in [0, 1].

    The PSNR of each frame counts alike, as in an evaluation. With L1 a few heavily blurred frames decide, and the network
    learns to change frames that should be left alone. After the PSNR loss of HINet (Chen et al., CVPRW 2021).
    """
    return PSNR_SCALE * ((restored - sharp).square().mean((-3, -2, -1)) + FLOOR).log().mean()


LOSSES = {"l1": l1_loss, "psnr": psnr_loss}
