"""The folder that an interrupted ``rirn deblur`` leaves for ``--resume``."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import torch

from rirn.models.state import State
from rirn.models.torch_files import read_torch_file
from rirn.video import deblur, pipeline
from rirn.video.tiles import TileStates
from tests.fuzz.kinds.base import Act, Echo, attribute
from tests.fuzz.mutate import change_value, damage
from tests.video.clips import write_clip

SEGMENT = 2
STOP = 5
"""Frames in a segment, and how many an interrupted run made."""


class Interrupted(Echo):
    """Stops as with Ctrl-C."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def step(self, frame, state):
        self.seen += 1
        if self.seen > STOP:
            raise KeyboardInterrupt
        return super().step(frame, state)


class Resumes:
    def __init__(self, seeds: Path):
        self.clip = write_clip(seeds / "clip.mkv", 8, 32, 24, codec="ffv1")
        self.seeds = seeds
        for name in ("done.mkv", "done"):
            with attribute(pipeline, "SEGMENT", SEGMENT):
                try:
                    self._deblur(Interrupted(), seeds / name, resume=False)
                except KeyboardInterrupt:
                    continue
            raise AssertionError("the run was to be interrupted")

    def _deblur(self, model: torch.nn.Module, target: Path, *, resume: bool) -> None:
        deblur(model, self.clip, target, progress=False, tile=None, resume=resume)

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        name = rng.choice(("done.mkv", "done"))
        target = folder / "out" / name
        parts = target.with_name(f"{name}.resume")
        shutil.copytree(self.seeds / parts.name, parts)
        if (self.seeds / name).is_dir():
            shutil.copytree(self.seeds / name, target)
        way = rng.random()
        states = sorted(parts.glob("state-*.pt"))
        files = sorted(p for p in parts.rglob("*") if p.is_file() and p.name != "lock")
        if way < 0.25:
            states[-1].write_bytes(damage(rng, states[-1].read_bytes()))
        elif way < 0.5:
            states[-1].write_bytes(_other_state(rng, states[-1].read_bytes()))
        elif way < 0.65:
            settings = json.loads((parts / "settings.json").read_text())
            (parts / "settings.json").write_text(json.dumps(change_value(rng, settings)))
        elif way < 0.85:
            path = rng.choice(files)
            path.write_bytes(damage(rng, path.read_bytes() or b"0"))
        else:
            self._misplace(rng, rng.choice(files), parts)
        model = Interrupted()
        model.seen = -(10**6)

        def run() -> None:
            with attribute(pipeline, "SEGMENT", SEGMENT):
                self._deblur(model, target, resume=True)

        return run

    @staticmethod
    def _misplace(rng: random.Random, path: Path, parts: Path) -> None:
        deed = rng.randrange(5)
        if deed == 0:
            path.unlink()
        elif deed == 1:
            path.rename(parts / rng.choice(("segment-x", "segment-000009.mkv", "state-000009.pt", "x.part")))
        elif deed == 2:
            names = ("segment-000009.mkv", "segment-", "state-000002.pt")
            shutil.copy(path, parts / rng.choice([name for name in names if parts / name != path]))
        elif deed == 3:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(b"")


def _other_state(rng: random.Random, content: bytes) -> bytes:
    """A whole file of torch.save with something else in it, behind the digest of what was there."""
    found = read_torch_file(io.BytesIO(content[32:]), classes=(State, TileStates))
    file = io.BytesIO()
    torch.save(change_value(rng, found), file)
    return content[:32] + file.getvalue()
