"""Image quality and scores on sequences."""

from rirn.evaluation.evaluate import FrameScore, Score, evaluate, frame_mean, sequence_mean
from rirn.evaluation.metrics import laplacian_variance, psnr, ssim, to_uint8
from rirn.evaluation.protocols import PROTOCOLS, Protocol
from rirn.evaluation.sharding import evaluate_in_ranks

__all__ = [
    "PROTOCOLS",
    "FrameScore",
    "Protocol",
    "Score",
    "evaluate",
    "evaluate_in_ranks",
    "frame_mean",
    "laplacian_variance",
    "psnr",
    "sequence_mean",
    "ssim",
    "to_uint8",
]
