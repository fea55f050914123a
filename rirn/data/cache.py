"""Decoded frames in memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rirn.data.images import read_image
from rirn.errors import RirnError
from rirn.lazy import Later

multiprocessing = Later("multiprocessing")
np, torch_data = Later("numpy"), Later("torch.utils.data")


class FrameCache:
    """Decoded frames of some files, kept while they fit into a limit; what does not fit is read again each time.

    Processes forked from its creator, as the workers of a DataLoader are on Linux, share the frames and the limit. A
    process that gets a copy in another way starts empty, and a worker among those with its part of the limit.

    Args:
        paths: all files that will be read.
        limit_bytes: memory for all frames together, allocated as needed.

    Raises:
        RirnError: the system does not grant that much.
    """

    def __init__(self, paths: Iterable[Path], limit_bytes: int):
        self._numbers = {path: number for number, path in enumerate(dict.fromkeys(paths))}
        self._limit = limit_bytes
        self._reserve()

    def _reserve(self) -> None:
        # Not the shared memory of torch or multiprocessing: those are files in /dev/shm, which has 64 MB in a container.
        try:
            self._memory = mmap.mmap(-1, max(1, self._limit))
        except OSError as error:
            raise RirnError(
                f"there is no room for {self._limit >> 20} MiB of decoded frames ({error}); lower cache_mib"
            ) from error
        # Start, height and width of each frame, zeros until it is there; the last row says how much is taken.
        rows = len(self._numbers) + 1
        self._table = np.frombuffer(mmap.mmap(-1, 8 * 3 * rows), np.int64).reshape(rows, 3)
        self._lock = multiprocessing.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"_numbers": self._numbers, "_limit": self._limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._table = None

    def __len__(self) -> int:
        """How many frames are kept."""
        return 0 if self._table is None else int(np.count_nonzero(self._table[:-1, 1]))

    def read(self, path: Path) -> np.ndarray:
        """Return the image as uint8 [H, W, 3]; do not write to it."""
        if self._table is None:
            worker = torch_data.get_worker_info()
            self._limit //= worker.num_workers if worker else 1
            self._reserve()
        number = self._numbers[path]
        with self._lock:
            start, height, width = self._table[number]
        if height:
            pixels = np.frombuffer(self._memory, np.uint8, int(height * width * 3), int(start))
            return pixels.reshape(height, width, 3)
        frame = read_image(path)
        with self._lock:
            start = int(self._table[-1, 0])
            # Another process may have been faster.
            if not self._table[number, 1] and start + frame.size <= self._limit:
                self._memory[start : start + frame.size] = frame.tobytes()
                self._table[number] = start, *frame.shape[:2]
                self._table[-1, 0] = start + frame.size
        return frame
