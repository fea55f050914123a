"""Optimisation steps, and all the state that they change."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rirn.distributed import World
from rirn.errors import RirnError
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State
from rirn.ops import use_precision
from rirn.training.config import OptimConfig, TrainConfig
from rirn.training.loader import Piece
from rirn.training.losses import LOSSES, Loss
from rirn.training.optimizers import make_optimizer
from rirn.training.schedule import learning_rate

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a step, over all processes."""

    loss: float
    """Mean over the frames that came out."""
    grad_norm: float
    """Before clipping; not finite if the step was skipped."""
    applied: bool
    """Whether the weights were changed."""
    lost: bool = False
    """Nothing was computed: an earlier skipped step left no state to continue from within these clips."""


class Learner:
    """A model with its optimiser, its average, and the state within the current clips.

    Args:
        model: on the device of ``world``.
        config: settings of the run.
        optim: settings of the optimiser, all in steps.
        world: the processes that train it together.
        loss: a loss instead of the one that ``optim`` names.
    """

    def __init__(
        self,
        model: VideoDeblurrer,
        config: TrainConfig,
        optim: OptimConfig,
        world: World,
        loss: Loss | None = None,
    ):
        self.model = model
        model.recompute = config.recompute
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema)) if optim.ema else None
        )
        self.optimizer = make_optimizer(model, optim)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=config.precision == "fp16")
        self.state: State | None = None
        self.skipped = 0
        """Total number of skipped steps."""
        self.skipped_in_a_row = 0
        self._lost = False
        self._optim, self._world = optim, world
        self._loss = LOSSES[optim.loss] if loss is None else loss
        self._dtype = AUTOCAST.get(config.precision)
        self._fast = config.precision == "fast"
        whole: nn.Module = _Pass(model)
        if world.size > 1 and world.device.type == "cuda":  # torch has it only for GPUs
            whole = nn.SyncBatchNorm.convert_sync_batchnorm(whole)
        # A single frame leaves the layers unused that only write the state for the next.
        self._pass = world.wrap(whole, unused=config.data.frames // config.data.chunks < 2)
        if config.compile:
            self._pass = torch.compile(self._pass)

    @property
    def result(self) -> VideoDeblurrer:
        """The model to validate and save: the average if there is one."""
        return self.model if self.average is None else self.average.module

    def step(self, piece: Piece, number: int) -> Outcome:
        """Learn from a piece; ``number`` counts the steps of the run from 0.

        A step whose gradient is not finite in any process changes nothing but the counts and fp16's scale.
        """
        if piece.first:
            self.state, self._lost = None, False
        if self._lost:
            return Outcome(float("nan"), float("nan"), applied=False, lost=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self._optim, number) * group.get("rate", 1.0)
        self.optimizer.zero_grad(set_to_none=True)
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        with use_precision("fast", gradients=True) if self._fast else contextlib.nullcontext():
            with torch.autocast(self._world.device.type, self._dtype, enabled=self._dtype is not None):
                restored, state = self._pass(piece.blurry, self.state, piece.last)
            loss = self._loss(restored.float(), piece.sharp)
            _check_loss(loss)
            self.scaler.scale(loss * piece.weight).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self._optim.clip_norm)
        mean_loss, mean_norm = self._world.mean([loss.item(), norm.item()])
        applied = bool(torch.isfinite(torch.tensor([mean_loss, mean_norm])).all())
        if applied:
            self.scaler.step(self.optimizer)
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.skipped_in_a_row = 0
        else:
            self.skipped += 1
            self.skipped_in_a_row += 1
            for buffer, before in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(before)  # else running statistics stay non-finite for good
            self._lost = self._world.any(state is not None and not _is_finite(state))
        self.scaler.update()
        self.state = None if state is None or self._lost else state.detach()
        return Outcome(mean_loss, mean_norm, applied)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold for :meth:`load_state_dict`; every process must call it."""
        # Cloned: frames in a state are views, and the whole clips behind them would be saved.
        state = {} if self.state is None else self._world.gather_state(self.state).map(torch.clone).tensors()
        generators = {"cpu": torch.get_rng_state()}
        if self._world.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self._world.device)
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "state": state,
            "skipped": [self.skipped, self.skipped_in_a_row, int(self._lost)],
            "generators": self._world.gather(generators),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Continue exactly where :meth:`state_dict` was taken; with another number of processes, except for random generators."""
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        self.state = None
        if content["state"]:
            joint = State.from_tensors(content["state"])
            share = next(iter(content["state"].values())).shape[0] // self._world.size
            mine = slice(self._world.rank * share, (self._world.rank + 1) * share)
            self.state = joint[mine].to(self._world.device)
        self.skipped, self.skipped_in_a_row, lost = content["skipped"]
        self._lost = bool(lost)
        if len(content["generators"]) == self._world.size:
            generators = content["generators"][self._world.rank]
            torch.set_rng_state(generators["cpu"])
            if "cuda" in generators and self._world.device.type == "cuda":
                torch.cuda.set_rng_state(generators["cuda"], self._world.device)


class _Pass(nn.Module):
    """A model's pass over a piece as one call, which is what DistributedDataParallel and torch.compile wrap."""

    def __init__(self, model: VideoDeblurrer):
        super().__init__()
        self.model = model

    def forward(self, blurry: Tensor, state: State | None, last: bool) -> tuple[Tensor, State | None]:
        if last:
            return self.model(blurry, state), None
        return self.model(blurry, state, return_state=True)


def _check_loss(loss: object) -> None:
    if not (isinstance(loss, Tensor) and loss.numel() == 1 and loss.requires_grad):
        got = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r:.100}"
        without = ", without a gradient" if isinstance(loss, Tensor) and not loss.requires_grad else ""
        raise RirnError(f"the loss must return one number, a tensor with a gradient; got {got}{without}")


def _is_finite(state: State) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in state.tensors().values())
