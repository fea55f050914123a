"""The file that a name of weights means."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from rirn.errors import RirnError, near_match


def shipped() -> dict[str, Path]:
    """Names and paths of the weights in the package; each has a card ``NAME.md`` beside it."""
    folder = resources.files("rirn.weights")
    return {
        p.name.removesuffix(".safetensors"): Path(str(p))
        for p in folder.iterdir()
        if p.name.endswith(".safetensors")
    }


def find_weights(name: str | Path) -> Path:
    """Return the file of weights that come with the package, or at a path.

    Raises:
        RirnError: there is no such file.
    """
    path = Path(name) if Path(name).suffix or os.sep in str(name) else shipped().get(str(name))
    if path is None:
        raise RirnError(
            f"there are no weights {str(name)!r}; {near_match(str(name), shipped())}, or give a path"
        )
    if not path.is_file():
        raise RirnError(f"there is no weights file {path}")
    return path
