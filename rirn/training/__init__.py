"""Training on folders of blurry and sharp frames."""

from rirn.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig
from rirn.training.trainer import train

__all__ = ["DataConfig", "ModelConfig", "OptimConfig", "TrainConfig", "train"]
