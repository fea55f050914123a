"""Short training runs that the tests share."""

import json

from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig


def config(data, out, **changes):
    """Four steps of a tiny network on the clips of the ``data`` fixture; settings of data by name."""
    cut = {
        name: changes.pop(name)
        for name in ("frames", "chunk", "crop", "batch", "workers", "cache_mib")
        if name in changes
    }
    settings = {
        "model": ModelConfig("ifi-rnn+rirn", width=0.2, residual=True),
        "optim": OptimConfig(lr=1e-3, steps=4, warmup=2),
        "device": "cpu",
        "save_every": 2,
        **changes,
    }
    return TrainConfig(
        out=out,
        data=DataConfig(**{"train": [data], "frames": 3, "crop": 32, "batch": 2, "workers": 0, **cut}),
        **settings,
    )


def rows(out):
    """The lines of a log."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def losses(out):
    return [row["loss"] for row in rows(out) if "loss" in row]
