"""Training on folders of blurry and sharp frames."""

from typing import TYPE_CHECKING

from rirn.lazy import names_of
from rirn.training.config import DataConfig, ModelConfig, OptimConfig, TrainConfig

if TYPE_CHECKING:
    from rirn.training.trainer import train

__all__ = ["DataConfig", "ModelConfig", "OptimConfig", "TrainConfig", "train"]

__getattr__ = names_of(__name__, {"train": "trainer"})
