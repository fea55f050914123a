"""Video deblurring with recurrence-in-recurrence networks on fused kernels."""

from rirn.errors import RirnError
from rirn.models import State, create_model, model_names
from rirn.streaming import stream
from rirn.version import __version__
from rirn.weights import load, save_weights

__all__ = [
    "RirnError",
    "State",
    "__version__",
    "create_model",
    "load",
    "model_names",
    "save_weights",
    "stream",
]
