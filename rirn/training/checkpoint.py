"""Files to go on from: written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from rirn.errors import RirnError

NAME = "checkpoint.pt"


def save_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Replace the checkpoint of a run; a kill or a full disk at any moment leaves the one before."""
    partial = folder / f"{NAME}.{os.getpid()}.part"
    try:
        with partial.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / NAME)
    finally:
        partial.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The checkpoint of a run, tensors on the CPU; None if there is none yet.

    Raises:
        RirnError: the file is there and cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RirnError(
            f"{path} is not a whole checkpoint of rirn ({reason}); move it away to start afresh"
        ) from error
