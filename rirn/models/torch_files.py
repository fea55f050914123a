"""Files of torch.save from anywhere, read so that nothing in them is executed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch


def read_torch_file(
    file: str | Path | BinaryIO, *, location: str | torch.device = "cpu", classes: Sequence[type] = ()
) -> Any:
    """What torch.save wrote: tensors, plain values, and instances of ``classes``.

    Args:
        file: path, or binary file.
        location: device for the tensors.
        classes: further classes that may be in the file; making one of their instances must be harmless.

    Raises:
        ValueError: it cannot be read; the message says why, without the name of the file.
    """
    try:
        with torch.serialization.safe_globals(list(classes)):
            return torch.load(file, map_location=location, weights_only=True)
    except pickle.UnpicklingError as error:
        # Its own message proposes to load the file without this protection.
        raise ValueError("it is damaged, or holds more than tensors and plain values") from error
    except Exception as error:  # the reader interprets what is in the file; damage can lead it anywhere
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
