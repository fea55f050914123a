"""Weights on disk, and the small ones that come with the package."""

from rirn.weights.files import load, save_weights, shipped

__all__ = ["load", "save_weights", "shipped"]
