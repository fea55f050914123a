"""How much memory is free, and how much a step of a network needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from rirn.measure.memory import peak_bytes

# Side of the piece of a frame on which the need is measured.
PROBE = 512
PROCESS = Path("/proc/self")
GROUPS = Path("/sys/fs/cgroup")
_CPU_MESSAGES = ("can't allocate memory", "not enough memory", "Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out; on the CPU torch has no type for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_MESSAGES)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that can still be allocated on ``device``; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + cached
    if device.type != "cpu":
        return None
    return min([*_machine(), *_control_groups(), *_address_space()], default=None)


def _machine() -> list[int]:
    try:
        meminfo = (PROCESS.parent / "meminfo").read_text()
    except OSError:  # not Linux
        return []
    return [1024 * int(kib) for kib in re.findall(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)]


def _control_groups() -> list[int]:
    """What the limits of this process's control groups leave, in a container or not.

    Cached file pages count as used there, although they make way for what is needed.
    """
    free = []
    try:
        lines = (PROCESS / "cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, files, cached = GROUPS, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in controllers.split(","):  # version 1
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            root, cached = GROUPS / "memory", "total_inactive_file"
        else:
            continue
        folder = root / group.strip("/")
        for level in (folder, *folder.parents):
            if not level.is_relative_to(root):
                break
            try:
                limit, used = ((level / name).read_text().strip() for name in files)
                pages = re.search(rf"^{cached} (\d+)", (level / "memory.stat").read_text(), re.MULTILINE)
            except OSError:  # no limit at the root, or another view of the groups than the container's own
                continue
            if limit.isdigit():
                free.append(int(limit) - int(used) + (int(pages[1]) if pages else 0))
    return free


def _address_space() -> list[int]:
    """What ``ulimit -v`` leaves."""
    try:
        import resource  # not on Windows

        pages = int((PROCESS / "statm").read_text().split()[0])
    except (ImportError, OSError):
        return []
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return [] if limit == resource.RLIM_INFINITY else [limit - pages * resource.getpagesize()]


def needed_bytes(model: Any, frame: Tensor) -> tuple[int, int] | None:
    """Bytes that a step on ``frame`` [1, 3, H, W] needs, and those of the state after it, from steps on a piece of it.

    A smaller piece comes first, since one-time buffers of libraries would count as if they grew with the frame. A model
    that looks ahead does nothing in its first steps, so steps are taken until there is a result. None if not measurable.
    """
    kept = 0

    def steps(side: int) -> None:
        nonlocal kept
        state = None
        for _ in range(1 + getattr(model, "delay", 0)):
            _, state = model.step(frame[..., :side, :side].contiguous(), state)
        kept = sum(leaf.nbytes for leaf in tree_leaves(state) if isinstance(leaf, Tensor))

    height, width = frame.shape[-2:]
    steps(PROBE // 2)
    peak = peak_bytes(lambda: steps(PROBE), frame.device)
    if peak is None:
        return None
    share = height * width / (min(height, PROBE) * min(width, PROBE))
    return round(peak * share), round(kept * share)
