"""Files of torch.save: the checkpoints of a training, and published ones for ``rirn convert``."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path
from typing import Any

import torch

from rirn import doctor
from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig, train
from rirn.training.checkpoint import read_checkpoint
from tests.data.layouts import gopro
from tests.fuzz.kinds.base import Act, attribute, command
from tests.fuzz.mutate import change_value, damage
from tests.weights.test_convert import estrnn


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch stray-from-a-pickle",)


class Checkpoints:
    def __init__(self, seeds: Path):
        self.data = seeds / "data"
        if not self.data.exists():
            gopro(self.data, ["train/GOPR0372_07_00"], frames=4)
        self.config = TrainConfig(
            out=seeds / "run",
            data=DataConfig(train=[self.data], frames=2, chunk=1, crop=4, batch=1, workers=0, cache_mib=1),
            model=ModelConfig("gru", width=0.1),
            optim=OptimConfig(steps=1, ema=0.9),
            device="cpu",
        )
        train(self.config)
        (self.file,) = (seeds / "run").glob("checkpoint-*.pt")
        self.content = read_checkpoint(self.file)
        self.public = {f"module.{name}": t for name, t in estrnn(n=2, blocks=1).state_dict().items()}

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        if rng.random() < 0.3:
            path = folder / "in.pth"
            path.write_bytes(_damaged(rng, rng.choice((self.public, {"state_dict": self.public}))))
            kind = rng.choice(("estrnn", "estrnn", "estrnn", "stfan", "strcnn"))
            return command("convert", kind, path, folder / "out" / "weights.safetensors")
        run = folder / "out" / "run"
        run.mkdir(parents=True)
        (run / self.file.name).write_bytes(_damaged(rng, self.content))
        # With steps that are done there is nothing to learn; the run takes up its checkpoint and writes weights.
        config = TrainConfig(
            **{**vars(self.config), "out": run, "resume": rng.choice(("auto", str(run / self.file.name)))}
        )
        return lambda: _train(config)


def _train(config: TrainConfig) -> None:
    with attribute(doctor, "commit", lambda: None):  # which asks git, for the log
        train(config)


def _damaged(rng: random.Random, content: Any) -> bytes:
    file = io.BytesIO()
    way = rng.random()
    if way < 0.5:
        torch.save(content, file, _use_new_zipfile_serialization=rng.random() < 0.8)
        return damage(rng, file.getvalue(), head=4000)
    if way < 0.6:
        torch.save({**content, "step": Bomb()} if rng.random() < 0.5 else Bomb(), file)
        return file.getvalue()
    for _ in range(rng.randint(1, 2)):
        content = change_value(rng, content)
    torch.save(content, file)
    return file.getvalue()
