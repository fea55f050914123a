"""Memory of a call: what it needs besides the memory already in use, and what it keeps for the backward pass."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

METHODS = {
    "cuda": "most memory allocated by torch on the GPU during one call, less that before it",
    "cpu": "high-water mark of the resident set (Linux, VmHWM) during one call, less the resident set before it",
}

PROCESS = Path("/proc/self")
RESET_HIGH_WATER = "5"  # the value to write to clear_refs for this, see proc(5)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the most bytes that one call needs besides those in use before it, including its result.

    On a GPU, this is what torch allocates. On the CPU, it is the resident set, so that buffers of kernels and libraries count
    too; freed results that the C library and the CPU kernels keep are released first. Their workspaces that persist between
    calls do not count. None if neither can be measured.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not sys.platform.startswith("linux"):
        return None
    _hand_back_freed_memory()
    try:
        (PROCESS / "clear_refs").write_text(RESET_HIGH_WATER)
    except OSError:  # not every sandbox allows it
        return None
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Return the bytes that a forward pass keeps for the backward pass: whole storages, each once, without the parameters."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    saved: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return t.detach()  # a result that referred to itself would never be freed

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        kept = forward()  # kept until here, else the address of a freed tensor could be reused
    del kept
    return sum(saved.values())


def _status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", (PROCESS / "status").read_text(), re.MULTILINE)[1])


def _hand_back_freed_memory() -> None:
    """Return freed memory to the system that is kept for reuse, which would hide the next allocation."""
    release = getattr(torch.ops.rirn, "release_kept_results", None)  # None without the compiled library
    if release is not None:
        release()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
    if trim is not None:
        trim(0)
