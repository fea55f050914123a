"""Networks: one file per base, the composition with RIRN, and their names."""

from rirn.models.costs import summary
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import create_model, model_names
from rirn.models.state import State

__all__ = ["State", "VideoDeblurrer", "create_model", "model_names", "summary"]
