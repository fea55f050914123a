"""Video deblurring with recurrence-in-recurrence networks on fused kernels."""

import sys
from typing import TYPE_CHECKING

from rirn.errors import RirnError
from rirn.lazy import names_of

if TYPE_CHECKING:
    from rirn.models import State, create_model, model_names
    from rirn.models.base import BaseNetwork
    from rirn.models.graphed import GraphedStep
    from rirn.models.registry import register_base
    from rirn.models.window import Window
    from rirn.streaming import stream
    from rirn.training.losses import register_loss
    from rirn.version import __version__
    from rirn.weights import load, save_weights

__all__ = [
    "BaseNetwork",
    "GraphedStep",
    "RirnError",
    "State",
    "Window",
    "__version__",
    "create_model",
    "load",
    "model_names",
    "register_base",
    "register_loss",
    "save_weights",
    "stream",
]

__getattr__ = names_of(
    "rirn",
    {
        "BaseNetwork": "models.base",
        "GraphedStep": "models.graphed",
        "State": "models.state",
        "Window": "models.window",
        "__version__": "version",
        "create_model": "models.registry",
        "load": "weights.files",
        "model_names": "models.registry",
        "register_base": "models.registry",
        "register_loss": "training.losses",
        "save_weights": "weights.files",
        "stream": "streaming",
    },
    rooms=("compare", "data", "evaluation", "models", "nn", "ops", "training", "video", "weights"),
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "torch" in sys.modules:
    import rirn.ops  # noqa: F401  (registers the ops that saved programs call)
