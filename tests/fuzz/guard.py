"""What a case may not do: write outside its output folder, start a process, open a connection, unpickle a class."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ON_PATHS = {  # audit events, and how many of their arguments are paths that change
    "os.mkdir": 1,
    "os.rename": 2,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.utime": 1,
}
_HARMLESS = (
    os.devnull,
    "/proc/self/clear_refs",
)  # the second sets back this process's own high-water mark of memory
# Arguments between the paths and the descriptors of the folders that they are relative to.
_BETWEEN = {"os.mkdir": 1, "os.chmod": 1, "os.chown": 2, "os.utime": 2}
_NEVER = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "socket.sendto",
    "pickle.find_class",
)


class Guard:
    """Watches what Python does in this process while a case runs; an audit hook cannot be removed, so there is one guard."""

    def __init__(self) -> None:
        self._allowed: str | None = None
        self._seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def watching(self, output: Path) -> Iterator[list[str]]:
        """Yield a list that fills with what is done beyond writing below ``output``."""
        self._seen = []
        self._allowed = os.path.realpath(output)
        try:
            yield self._seen
        finally:
            self._allowed = None

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self._allowed is None:
            return
        if event == "open":
            path, mode, flags = args
            if (isinstance(mode, str) and any(c in mode for c in "wax+")) or (flags or 0) & _WRITES:
                self._check(event, path)
        elif event in _ON_PATHS:
            count = _ON_PATHS[event]
            descriptors = args[count + _BETWEEN.get(event, 0) :]
            for i, path in enumerate(args[:count]):
                self._check(event, path, descriptors[i] if i < len(descriptors) else -1)
        elif event in _NEVER:
            self._seen.append(f"{event} {args[:1]!r}"[:200])

    def _check(self, event: str, path: Any, folder: int = -1) -> None:
        if isinstance(path, int) or path is None:  # a descriptor that is open already
            return
        name = os.fsdecode(path)
        if folder >= 0:  # the name is relative to an open folder
            name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
        real = os.path.realpath(os.path.dirname(os.path.abspath(name)))
        if name not in _HARMLESS and not (real + os.sep).startswith(f"{self._allowed}{os.sep}"):
            self._seen.append(f"{event} {name}"[:200])


def snapshot(folder: Path, without: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of everything below a folder but ``without``."""
    found = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if Path(place, f) != without]
        for name in (*folders, *files):
            status = os.lstat(os.path.join(place, name))
            is_folder = name in folders  # the time of a folder changes with what a lock file does to it
            found[os.path.join(place, name)] = (0, 0) if is_folder else (status.st_size, status.st_mtime_ns)
    return found
