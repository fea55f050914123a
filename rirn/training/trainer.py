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
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State
from rirn.training.checkpoint import load_checkpoint, save_checkpoint
from rirn.training.config import OptimConfig, TrainConfig
from rirn.training.losses import LOSSES
from rirn.weights import load, save_weights


def train(config: TrainConfig) -> Path:
    """Train a model and return the path of its weights, ``out/weights.safetensors``.

    A run that was cut off goes on from its last checkpoint exactly as if it had never stopped: clips are numbered, and
    everything that is random or has a moment is in the checkpoint. Each step writes one line to ``out/log.jsonl``.

    Raises:
        RirnError: data, model or checkpoint do not fit the settings, or the loss is not finite.
    """
    torch.manual_seed(config.seed)
    model = create_model(config.model.name, **config.model.options()).to(config.device)
    if config.data.chunk is not None and config.data.chunk <= model.delay:
        raise RirnError(
            f"data.chunk must be more than the {model.delay} frames that {config.model.name} looks ahead; "
            f"got {config.data.chunk}"
        )
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
    first, state = _restore(config, model, optimizer) if config.resume else (0, None)
    if first == 0 and config.model.start is not None:
        _start_from(model, config.model.start)
    log = _Log(config.out / "log.jsonl", first)
    with (
        ops.use_backend(config.backend),
        log,
        tqdm(total=config.optim.steps, initial=first, unit="step", disable=None) as bar,
    ):
        for step in range(first, config.optim.steps):
            started = time.perf_counter()
            piece, sharp, last = _piece(clips, config, step, model.delay)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config.optim, step)
            loss, norm, state = _step(model, optimizer, piece, sharp, state, last, config)
            log.write(step=step, loss=loss, grad_norm=norm, seconds=round(time.perf_counter() - started, 4))
            bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
            bar.update()
            done = step + 1 == config.optim.steps
            if done or (step + 1) % config.save_every == 0:
                save_checkpoint(config.out, _content(config, model, optimizer, state, step + 1))
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


def _start_from(model: VideoDeblurrer, path: Path) -> None:
    """Copy the weights of a file into a model of the same kind."""
    start = load(path)
    ours, theirs = (
        ([m.config.get(option) for option in ("name", "residual", "atb_decay")], _shapes(m))
        for m in (model, start)
    )
    if ours != theirs:
        raise RirnError(
            f"the weights {path} belong to the model {start.config}, not to {model.config}; "
            "make the settings of model equal, or leave out model.start"
        )
    model.load_state_dict(start.state_dict())


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _piece(clips: ClipDataset, config: TrainConfig, step: int, delay: int) -> tuple[Tensor, Tensor, bool]:
    """Frames that a step feeds, the sharp ones of those that come out, and whether the clips end with them."""
    size, (batch, piece) = config.data.batch, divmod(step, config.data.chunks)
    blurry, sharp = default_collate([clips[batch * size + i] for i in range(size)])
    length = config.data.frames // config.data.chunks
    last = piece + 1 == config.data.chunks
    first, end = piece * length, (piece + 1) * length
    done = slice(max(0, first - delay), end if last else end - delay)
    return blurry[:, first:end].to(config.device), sharp[:, done].to(config.device), last


def _step(
    model: VideoDeblurrer,
    optimizer: torch.optim.Optimizer,
    blurry: Tensor,  # [N, T, 3, H, W]
    sharp: Tensor,  # [N, T', 3, H, W]
    state: State | None,  # of the frames before, None at the start of the clips
    last: bool,
    config: TrainConfig,
) -> tuple[float, float, State | None]:
    """Loss, norm of the gradient, and the state that the next step starts with."""
    optimizer.zero_grad(set_to_none=True)
    restored, state = (model(blurry, state), None) if last else model(blurry, state, return_state=True)
    loss = LOSSES[config.optim.loss](restored, sharp)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
    if not torch.isfinite(norm):
        raise RirnError(
            f"the gradient is not finite (loss {loss.item()}); lower optim.lr, now {config.optim.lr}"
        )
    optimizer.step()
    return loss.item(), norm.item(), None if state is None else state.detach()


def _identity(config: TrainConfig) -> list[Any]:
    """The settings that a resumed run must share with the one it goes on from."""
    data = {name: getattr(config.data, name) for name in ("frames", "chunk", "crop", "batch")}
    parts = [config.model.name, config.model.options(), dataclasses.asdict(config.optim), data, config.seed]
    return json.loads(json.dumps(parts))


def _content(
    config: TrainConfig,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: State | None,
    step: int,
) -> dict[str, Any]:
    return {
        "identity": _identity(config),
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        # Cloned: frames in a state are views, and the whole clips behind them would be saved.
        "state": {} if state is None else state.map(torch.clone).tensors(),
        "rng": torch.get_rng_state(),
    }


def _restore(
    config: TrainConfig, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, State | None]:
    """Put the last checkpoint back; the number of steps it has behind it, and the state of their clips."""
    content = load_checkpoint(config.out)
    if content is None:
        return 0, None
    if content["identity"] != _identity(config):
        raise RirnError(
            f"the checkpoint in {config.out} belongs to other settings of model, optim, data or seed; "
            "give another --out, or --resume false"
        )
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"])
    state = State.from_tensors(content["state"]).to(config.device) if content["state"] else None
    return content["step"], state


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
