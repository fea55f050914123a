"""Configuration files of ``rirn train``, up to the point where the run begins."""

from __future__ import annotations

import random
from pathlib import Path

import yaml

import rirn
import rirn.training
from rirn.training.config import DataConfig, TrainConfig
from tests.fuzz.kinds.base import Act, attribute, command
from tests.fuzz.mutate import change_value, damage

HOSTILE = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: &d [*c, *c, *c, *c]\nout: [*d, *d, *d, *d]\n",
    "seed: !!python/object/apply:os.system ['touch stray']\n",
    "seed: !!python/name:os.system\n",
    "model: &m\n  name: gru\n  <<: *m\n",
    "[" * 2000,
    "{a: " * 500,
    "--- 1\n--- 2\n",
    "? [a, b]\n: c\n",
    "seed: 1\nseed: 2\n",
    "seed: 1_000\nout: ~\n",
    "\ufeffseed: 1\n",
    "data:\n\ttrain: [x]\n",
    "config: in.yaml\n",
)


class Configs:
    def __init__(self, seeds: Path):
        self.plain = TrainConfig(out=Path("runs/mine"), data=DataConfig(train=[Path("data/train")])).plain()

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        way, path = rng.random(), folder / "in.yaml"
        if way < 0.55:
            settings = self.plain
            for _ in range(rng.randint(1, 3)):
                settings = change_value(rng, settings)
            text = yaml.safe_dump(settings, sort_keys=rng.random() < 0.5).encode()
        elif way < 0.95:
            text = damage(rng, yaml.safe_dump(self.plain).encode())
        else:
            text = rng.choice(HOSTILE).encode()
        path.write_bytes(text)
        act = command("train", "--config", path, "--out", folder / "out" / "run")

        def run() -> int | None:
            with attribute(rirn.training, "train", _only_model):
                return act()

        return run


def _only_model(config: TrainConfig) -> Path:
    """What a run does first with its settings."""
    config.plain()
    rirn.create_model(config.model.name, **config.model.arguments())
    return config.out
