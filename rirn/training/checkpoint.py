"""Checkpoints: written whole or not at all, the last few of them kept."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

from rirn.errors import RirnError
from rirn.models.torch_files import read_torch_file

_NAME = re.compile(r"checkpoint-(\d+)\.pt")


class Checkpoints:
    """The checkpoints ``checkpoint-00000500.pt`` of one run in a folder.

    Args:
        folder: an existing folder for them.
        keep: how many of the newest to keep.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self._folder, self._keep = folder, keep

    def paths(self) -> list[Path]:
        """The existing checkpoints, the newest last."""
        found = [p for p in self._folder.glob("checkpoint-*.pt") if _NAME.fullmatch(p.name)]
        return sorted(found, key=_step)

    def save(self, step: int, content: dict[str, Any]) -> Path:
        """Write the checkpoint after ``step`` steps, then drop the old ones.

        A kill, a full disk or a power cut at any moment leaves the previous one: the file gets its name when all of it is on
        disk. Checkpoints of later steps belong to an abandoned run and are dropped, too.

        Raises:
            RirnError: it cannot be written.
        """
        path = self._folder / f"checkpoint-{step:08d}.pt"
        for left in self._folder.glob("checkpoint-*.part"):  # by a process that was killed while writing
            left.unlink(missing_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            _sync_folder(self._folder)
        except (OSError, RuntimeError) as error:
            good = self.paths()
            rest = f"the last good one is {good[-1]}" if good else "there is none before it"
            raise RirnError(
                f"cannot write the checkpoint {path} ({_first_line(error)}); {rest}, so make room and start again"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
        for other in self.paths():
            if _step(other) > step:
                other.unlink()
        for old in self.paths()[: -self._keep]:
            old.unlink()
        return path

    def load(self, resume: str = "auto") -> dict[str, Any] | None:
        """Return the content to resume from, tensors on the CPU; None to start afresh.

        Args:
            resume: ``auto``: the newest intact one, None if there are none at all; ``never``: None; else a path.

        Raises:
            RirnError: there are some but none is intact, or the requested one is not.
        """
        if resume == "never":
            return None
        if resume != "auto":
            if not Path(resume).is_file():
                raise RirnError(f"there is no checkpoint {resume}; give the path of one, or auto, or never")
            return read_checkpoint(Path(resume))
        damage = None
        for path in reversed(self.paths()):
            try:
                return read_checkpoint(path)
            except RirnError as error:
                damage = error
                print(f"{error}; trying the one before", file=sys.stderr)
        if damage is not None:
            raise damage
        return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a file, tensors on the CPU; nothing in it is executed.

    Raises:
        RirnError: it cannot be read.
    """
    try:
        content = read_torch_file(path)
    except ValueError as error:
        raise RirnError(
            f"{path} is not a whole checkpoint of rirn ({error}); move it away to do without it"
        ) from error
    step = content.get("step") if isinstance(content, dict) else None
    if type(step) is not int or step < 0:
        raise RirnError(f"{path} is no checkpoint of rirn: it names no step; move it away to do without it")
    return content


def _step(path: Path) -> int:
    return int(_NAME.fullmatch(path.name)[1])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _sync_folder(folder: Path) -> None:
    """Flush the new name to disk as well, not only the file's content."""
    if os.name == "nt":  # cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
