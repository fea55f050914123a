"""Image quality; :mod:`rirn.evaluation.protocols` says of which frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rirn.errors import RirnError


def to_uint8(frame: Tensor, *, truncate: bool = False) -> np.ndarray:
    """One frame [3, H, W], RGB in [0, 1], clamped and rounded or truncated -> uint8 [H, W, 3]."""
    levels = frame.detach().float().clamp(0, 1).mul(255)
    return (levels if truncate else levels.round()).to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 [H, W, 3] images: ``10 log10(255^2 / MSE)``; infinite if they are equal."""
    error = np.mean((image.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity of uint8 [H, W, 3] images: Gaussian 11x11 window of sigma 1.5, biased covariance, mean over channels.

    Raises:
        RirnError: scikit-image is not installed, or a side is shorter than the window.
    """
    try:
        from skimage.metrics import structural_similarity
    except ModuleNotFoundError as error:
        raise RirnError("SSIM needs scikit-image: pip install 'rirn[eval]'") from error
    height, width, _ = image.shape
    if min(height, width) < 11:
        raise RirnError(f"SSIM needs frames of at least 11x11 pixels; got {width}x{height}")
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


def laplacian_variance(image: np.ndarray) -> float:
    """Variance of the Laplacian of a uint8 [H, W, 3] image, a measure of sharpness without a reference.

    The 4-neighbour Laplacian of the luma (BT.709 weights, levels 0 to 255) where all neighbours are inside, as in
    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000. Noise raises it as well as
    detail, and it depends on the scene: compare it only between versions of one frame.

    Raises:
        RirnError: a side is shorter than three pixels.
    """
    height, width, _ = image.shape
    if min(height, width) < 3:
        raise RirnError(f"The variance of the Laplacian needs at least 3x3 pixels; got {width}x{height}")
    luma = image.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.var(neighbours - 4 * luma[1:-1, 1:-1], dtype=np.float64))
