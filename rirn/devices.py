"""The device that a name means."""

from __future__ import annotations

import os

import torch

from rirn.errors import RirnError


def pick_device(name: str | torch.device) -> torch.device:
    """Return the device with this name: ``cpu``, ``cuda``, ``cuda:1``, ..., or ``auto``, a GPU if there is one.

    If a launcher started several processes on a machine, ``cuda`` is a different GPU for each as long as there are enough.

    Raises:
        RirnError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    rank = os.environ.get("LOCAL_RANK")
    if name == "cuda" and rank is not None and torch.cuda.is_available():
        name = f"cuda:{int(rank) % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RirnError(f"torch knows no device {str(name)!r}; give auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda":
        # Counted, not tried: whatever touches a GPU takes memory there.
        if (device.index or 0) >= torch.cuda.device_count():
            raise RirnError(
                f"there is no device {name}, torch sees {torch.cuda.device_count()} GPUs; "
                "give cpu, or under torchrun start fewer processes"
            )
        return device
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RirnError(
            f"the device {name} cannot be used ({str(error).splitlines()[0]:.100}); give cpu"
        ) from error
    return device
