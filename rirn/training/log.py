"""What a run reports: JSON Lines always, TensorBoard if it is installed, and a picture."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from rirn import doctor
from rirn.data.images import write_png
from rirn.distributed import World
from rirn.files import replacing
from rirn.training.config import TrainConfig
from rirn.training.probe import Probe


class RunLog:
    """The log of a run, as a context manager; in all processes but the main one it writes nothing.

    ``log.jsonl`` starts with the machine, versions, commit and settings. A resumed run adds another such line and drops those
    of the steps that it will repeat. Values of steps also go to TensorBoard's files in ``tensorboard/``.

    Args:
        config: settings of the run.
        world: this process.
        first: steps already done.
        facts: facts about the run that belong in its first line.
    """

    def __init__(self, config: TrainConfig, world: World, first: int, **facts: Any):
        self._out, self._world, self._first = config.out, world, first
        self._header = {
            **machine_facts(world),
            **facts,
            "resumed_at": first or None,
            "settings": config.plain(),
        }
        self._file = self._board = None

    def __enter__(self) -> RunLog:
        if self._world.main:
            path = self._out / "log.jsonl"
            keep_lines(path, self._first)
            self._file = path.open("a", buffering=1, encoding="utf-8")
            self._line(self._header)
            self._board = _tensorboard(self._out / "tensorboard", self._first)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for target in (self._file, self._board):
            if target is not None:
                target.close()
        self._file = self._board = None

    def write(self, step: int, group: str, **figures: Any) -> None:
        """Write a line about a step; values that are numbers also go to TensorBoard under ``group/``."""
        if self._file is None:
            return
        self._line({"step": step, **figures})
        if self._board is not None:
            for name, value in figures.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    self._board.add_scalar(f"{group}/{name}", value, step)

    def probe(self, step: int, seen: Probe) -> None:
        """Write the picture, also as ``strip.png``, and the statistics of the gates."""
        if self._file is None:
            return
        write_png(self._out / "strip.png", seen.strip)
        if self._board is not None:
            self._board.add_image("blurry, restored, sharp", seen.strip, step, dataformats="HWC")
        if seen.gates is not None:
            gates = {name: round(value, 5) for name, value in dataclasses.asdict(seen.gates).items()}
            self.write(step, "gates", **{f"gate_{name}": value for name, value in gates.items()})

    def _line(self, content: dict[str, Any]) -> None:
        self._file.write(json.dumps(_in_words(content)) + "\n")


def _in_words(value: Any) -> Any:
    """JSON has no non-finite numbers; every reader can take them as words."""
    if isinstance(value, dict):
        return {name: _in_words(item) for name, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def machine_facts(world: World) -> dict[str, Any]:
    """Machine, versions and commit, without paths."""
    report = doctor.report()
    names = {"cpu", str(world.device), f"{world.device.type}:{world.device.index or 0}"}
    return {
        "devices": [device for device in report["devices"] if device["name"] in names],
        "processes": world.size,
        "threads": report["threads"],
        "versions": report["versions"],
        "commit": doctor.commit(),
        "cpu_isa": report["library"]["isa"],
        "environment": report["environment"],
    }


def keep_lines(path: Path, first: int) -> None:
    """Drop the lines of steps from ``first`` on, and a truncated last line; the file is replaced atomically."""
    if not path.exists() or first == 0:
        path.unlink(missing_ok=True)
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line).get("step", -1) < first:
                kept.append(f"{line}\n")
        except json.JSONDecodeError:
            continue
    with replacing(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


def peak_memory_mib(device: torch.device) -> float:
    """Most memory in use at once since the process started, MiB: allocated by torch on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if importlib.util.find_spec("resource") is None:  # Windows
        return math.nan
    import resource

    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def _tensorboard(folder: Path, first: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first)
