"""Image quality, as the authors of RIRN measured it in their public code.

Outputs are clamped to [0, 1] and rounded to 8 bits; RGB, the whole frame, no alignment.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_uint8(frame: Tensor) -> np.ndarray:
    """One frame [3, H, W], RGB in [0, 1], clamped and rounded -> uint8 [H, W, 3]."""
    return frame.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 [H, W, 3] images: ``10 log10(255^2 / MSE)``; infinite for equal ones."""
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of uint8 [H, W, 3] images: Gaussian 11x11 window of sigma 1.5, biased covariance, mean over channels.

    Needs scikit-image (``pip install 'rirn[eval]'``).
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            image,
            truth,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
    )
