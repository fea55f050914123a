"""Weights on disk, and the small ones that come with the package."""

from typing import TYPE_CHECKING

from rirn.lazy import names_of
from rirn.weights.names import shipped

if TYPE_CHECKING:
    from rirn.weights.files import load, save_weights

__all__ = ["load", "save_weights", "shipped"]

__getattr__ = names_of(__name__, {"load": "files", "save_weights": "files"})
