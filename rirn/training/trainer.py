"""The training loop."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from tqdm import tqdm

from rirn import ops
from rirn.data.clips import ClipDataset
from rirn.data.sequences import Sequence, find_sequences
from rirn.errors import RirnError
from rirn.evaluation.evaluate import evaluate, frame_mean
from rirn.models import create_model
from rirn.training.checkpoint import load_checkpoint, save_checkpoint
from rirn.training.config import OptimConfig, TrainConfig
from rirn.weights import save_weights


def train(config: TrainConfig) -> Path:
    """Train a model and return the path of its weights, ``out/weights.safetensors``.

    A run that was cut off goes on from its last checkpoint exactly as if it had never stopped: clips are numbered, and
    everything that is random or has a moment is in the checkpoint. Each step writes one line to ``out/log.jsonl``.

    Raises:
        RirnError: data, model or checkpoint do not fit the settings, or the loss is not finite.
    """
    torch.manual_seed(config.seed)
    model = create_model(config.model.name, **config.model.options()).to(config.device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    clips = ClipDataset(
        _all_sequences(config.data.train),
        frames=config.data.frames,
        crop=config.data.crop,
        seed=config.seed,
        cache_mib=config.data.cache_mib,
    )
    validation = _all_sequences(config.data.val)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr)
    config.out.mkdir(parents=True, exist_ok=True)
    first = _restore(config, model, optimizer) if config.resume else 0
    log = _Log(config.out / "log.jsonl", first)
    with (
        ops.use_backend(config.backend),
        log,
        tqdm(total=config.optim.steps, initial=first, unit="step", disable=None) as bar,
    ):
        for step in range(first, config.optim.steps):
            started = time.perf_counter()
            loss, norm = _step(
                model, optimizer, _batch(clips, config, step), learning_rate(config.optim, step), config
            )
            log.write(step=step, loss=loss, grad_norm=norm, seconds=round(time.perf_counter() - started, 4))
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
            done = step + 1 == config.optim.steps
            if done or (step + 1) % config.save_every == 0:
                save_checkpoint(config.out, _content(config, model, optimizer, step + 1))
            if validation and (done or (step + 1) % config.val_every == 0):
                scores = list(evaluate(model.eval(), validation))
                model.train()
                figures = {f: round(frame_mean(scores, f), 3) for f in ("psnr_in", "psnr_out")}
                log.write(
                    step=step,
                    **figures,
                    sequences={s.sequence: round(s.psnr_out - s.psnr_in, 3) for s in scores},
                )
                bar.write(
                    f"step {step + 1}: validation {figures['psnr_in']:.2f} -> {figures['psnr_out']:.2f} dB",
                    sys.stderr,
                )
    weights = config.out / "weights.safetensors"
    save_weights(model, weights)
    return weights


def learning_rate(config: OptimConfig, step: int) -> float:
    """Learning rate of a step counted from 0: linear rise over ``warmup`` steps, then half a cosine down to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return (
        config.lr
        * 0.5
        * (1 + math.cos(math.pi * (step - config.warmup) / max(1, config.steps - config.warmup)))
    )


def _all_sequences(folders: list[Path]) -> list[Sequence]:
    return [sequence for folder in folders for sequence in find_sequences(folder)]


def _batch(clips: ClipDataset, config: TrainConfig, step: int) -> tuple[Tensor, Tensor]:
    size = config.data.batch
    blurry, sharp = default_collate([clips[step * size + i] for i in range(size)])
    return blurry.to(config.device), sharp.to(config.device)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    lr: float,
    config: TrainConfig,
) -> tuple[float, float]:
    blurry, sharp = batch
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss = nn.functional.l1_loss(model(blurry), sharp)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
    if not torch.isfinite(norm):
        raise RirnError(
            f"the gradient is not finite (loss {loss.item()}); lower optim.lr, now {config.optim.lr}"
        )
    optimizer.step()
    return loss.item(), norm.item()


def _identity(config: TrainConfig) -> dict[str, Any]:
    """The settings that a resumed run must share with the one it goes on from."""
    return json.loads(
        json.dumps(
            [dataclasses.asdict(part) for part in (config.model, config.optim)] + [config.seed], default=str
        )
    )


def _content(
    config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> dict[str, Any]:
    return {
        "identity": _identity(config),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
    }


def _restore(config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the last checkpoint back; the number of steps it has behind it."""
    content = load_checkpoint(config.out)
    if content is None:
        return 0
    if content["identity"] != _identity(config):
        raise RirnError(
            f"the checkpoint in {config.out} belongs to other settings of model, optim or seed; "
            "give another --out, or --resume false"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"])
    return content["step"]


class _Log:
    """One JSON object per line; a resumed run drops the lines of steps that it will do again."""

    def __init__(self, path: Path, first: int):
        lines = path.read_text().splitlines() if path.exists() and first else []
        self._path, self._kept = path, [line for line in lines if json.loads(line)["step"] < first]

    def __enter__(self) -> _Log:
        self._file = self._path.open("w", buffering=1)
        self._file.writelines(f"{line}\n" for line in self._kept)
        return self

    def __exit__(self, *exc_info) -> None:
        self._file.close()

    def write(self, **figures) -> None:
        self._file.write(json.dumps(figures) + "\n")
