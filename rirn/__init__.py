"""Video deblurring with recurrence-in-recurrence networks on fused kernels."""

from importlib.metadata import PackageNotFoundError, version

from rirn.errors import RirnError
from rirn.models import State, create_model, model_names
from rirn.streaming import stream
from rirn.weights import load, save_weights

try:
    __version__ = version("rirn")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

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
