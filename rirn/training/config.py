"""Typed settings of a training run; the command line and configuration files fill them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rirn.errors import RirnError
from rirn.training.losses import LOSSES


@dataclasses.dataclass
class ModelConfig:
    """What to train; see :func:`rirn.create_model`."""

    name: str = "ifi-rnn+rirn"
    width: float = 1.0
    """Factor on the internal channels."""
    residual: bool = False
    """Predict the difference to the input; short trainings need it."""
    atb_decay: float = 1.0
    """Bound of the gate of the blended feature; below 1 it cannot grow without end on long videos."""
    variant: str | None = None
    """CxHy of IFI-RNN."""
    start: Path | None = None
    """Weights to go on from (fine-tuning), a file of the same model; else the run starts with random ones."""

    def options(self) -> dict[str, object]:
        """Arguments of ``create_model`` but the name."""
        options: dict[str, object] = {
            "width": self.width,
            "residual": self.residual,
            "atb_decay": self.atb_decay,
        }
        return options if self.variant is None else options | {"variant": self.variant}


@dataclasses.dataclass
class DataConfig:
    """Where the clips come from and how they are cut."""

    train: list[Path]
    """Folders of sequences to learn from."""
    val: list[Path] = dataclasses.field(default_factory=list)
    """Folders of sequences to watch; none of their frames is learnt from."""
    frames: int = 12
    """Frames per clip."""
    chunk: int | None = None
    """Frames per step: the clip is walked in pieces, the state goes on from one to the next, the gradient does not
    (truncated back-propagation through time). By default the whole clip makes one step."""
    crop: int = 256
    """Side of the square crop, pixels."""
    batch: int = 16
    """Clips per step."""
    cache_mib: int = 2048
    """Memory for decoded frames, MiB."""

    @property
    def chunks(self) -> int:
        """Steps per batch of clips."""
        return 1 if self.chunk is None else self.frames // self.chunk


@dataclasses.dataclass
class OptimConfig:
    """Adam, learning rate rising linearly and then falling along half a cosine to zero."""

    loss: str = "l1"
    """``l1``: mean absolute error, as in the paper; ``psnr``: see :mod:`rirn.training.losses`."""
    lr: float = 1e-4
    steps: int = 100_000
    warmup: int = 0
    """Steps until the learning rate is reached."""
    clip_norm: float = 20.0
    """Largest norm of the gradient of all parameters together."""


@dataclasses.dataclass
class TrainConfig:
    """A training run."""

    out: Path
    """Folder for checkpoints, the log and the final weights."""
    data: DataConfig
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    seed: int = 0
    device: str = "cpu"
    backend: str = "auto"
    """Form of the ops: auto, reference, cpu, cuda or triton."""
    channels_last: bool = True
    """Keep convolution weights in channels-last order, which the CPU and GPU convolution libraries prefer."""
    save_every: int = 500
    """Steps between two checkpoints."""
    val_every: int = 1000
    """Steps between two validations."""
    resume: bool = True
    """Go on from the newest checkpoint in ``out`` if there is one."""

    def __post_init__(self) -> None:
        positive = {
            "data.frames": self.data.frames,
            "data.crop": self.data.crop,
            "data.batch": self.data.batch,
            "optim.lr": self.optim.lr,
            "optim.steps": self.optim.steps,
            "optim.clip_norm": self.optim.clip_norm,
            "save_every": self.save_every,
            "val_every": self.val_every,
        }
        for name, value in positive.items():
            if not value > 0:
                raise RirnError(f"{name} must be positive; got {value}")
        if self.optim.loss not in LOSSES:
            raise RirnError(f"optim.loss must be one of {', '.join(LOSSES)}; got {self.optim.loss!r}")
        if self.data.chunk is not None and (self.data.chunk < 1 or self.data.frames % self.data.chunk):
            raise RirnError(
                f"data.chunk must divide data.frames, now {self.data.frames}; got {self.data.chunk}"
            )
