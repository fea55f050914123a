"""How much memory is free, and how much a step of a network needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rirn.measure.memory import peak_bytes

# Side of the piece of a frame on which the need is measured.
PROBE = 256
_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; on the CPU torch has no type for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on `device`; None where nobody says."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type != "cpu":
        return None
    try:
        available = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:  # not Linux
        return None
    limits = [1024 * int(available[1])] if available else []
    limits.extend(_container_limit())
    return min(limits, default=None)


def _container_limit() -> list[int]:
    """What the control group of a container leaves of its limit, if it has one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return []
    return [int(limit) - int(used)] if limit.isdigit() else []


def needed_bytes(model: Any, frame: Tensor) -> int | None:
    """Bytes that a step on `frame` [1, 3, H, W] needs, from a step on a piece of it; None if not measurable."""
    height, width = frame.shape[-2:]
    piece = frame[..., :PROBE, :PROBE].contiguous()
    peak = peak_bytes(lambda: model.step(piece, None), frame.device)
    pixels = piece.shape[-2] * piece.shape[-1]
    return None if peak is None else round(peak / pixels * height * width)
