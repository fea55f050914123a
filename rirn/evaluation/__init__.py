"""Image quality and scores on sequences."""

from rirn.evaluation.evaluate import Score, evaluate, frame_mean
from rirn.evaluation.metrics import psnr, ssim, to_uint8

__all__ = ["Score", "evaluate", "frame_mean", "psnr", "ssim", "to_uint8"]
