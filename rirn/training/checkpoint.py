"""Files to go on from: written whole or not at all."""

from __future__ import annotations

import os
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
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        raise RirnError(f"cannot read the checkpoint {path}: {str(error).splitlines()[0]}; move it away to start afresh") from error
    except Exception as error:  # pickle's own errors have no common class but Exception
        if type(error).__module__ not in ("_pickle", "pickle"):
            raise
        raise RirnError(f"{path} is not a checkpoint of rirn; move it away to start afresh") from error
