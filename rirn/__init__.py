"""Video deblurring with recurrence-in-recurrence networks on fused kernels."""

from rirn.errors import RirnError
from rirn.models import State, create_model, model_names
from rirn.models.base import BaseNetwork
from rirn.models.registry import register_base
from rirn.streaming import stream
from rirn.training.losses import register_loss
from rirn.version import __version__
from rirn.weights import load, save_weights

__all__ = [
    "BaseNetwork",
    "RirnError",
    "State",
    "__version__",
    "create_model",
    "load",
    "model_names",
    "register_base",
    "register_loss",
    "save_weights",
    "stream",
]
