"""Typed settings of a training run; the command line and configuration files fill them."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from rirn.data.camera import Camera
from rirn.data.scenes import Scene
from rirn.data.sources import Pairing, Shutter, Source
from rirn.errors import RirnError
from rirn.files import replacing
from rirn.lazy import Later
from rirn.plugins import find_plugins

yaml = Later("yaml")

OWN_LOSSES = ("l1", "psnr")
PRECISIONS = ("fp32", "bf16", "fp16", "fast")
DEFAULTS = {
    "name": "ifi-rnn+rirn",
    "width": 1.0,
    "residual": False,
    "atb_decay": 1.0,
    "half_resolution": False,
}
"""Settings of a model that starts from random weights."""


@dataclasses.dataclass
class ModelConfig:
    """What to train; see :func:`rirn.create_model`. Unset values come from ``start``, or else are those in brackets."""

    name: str | None = None
    """Name of the network (``ifi-rnn+rirn``); ``rirn models`` lists all."""
    width: float | None = None
    """Factor on the internal channels (1)."""
    residual: bool | None = None
    """Predict the difference to the input; short training runs need it (false)."""
    atb_decay: float | None = None
    """Upper bound of the blended feature's gate (1); below 1 the feature cannot grow without bound on long videos."""
    half_resolution: bool | None = None
    """Work at half resolution and upsample the difference (false): a quarter of the arithmetic; only with ``residual``."""
    variant: str | None = None
    """CxHy of IFI-RNN."""
    blocks: int | None = None
    """Residual blocks of IFI-RNN, dense blocks of RDBN and of MMP-RNN's trunk."""
    past: int | None = None
    """Earlier frames that IFI-RNN's encoder reads with the current one (0), or whose features the head of ESTRNN or MMP-RNN
    reads (2)."""
    future: int | None = None
    """Later frames, likewise; the output waits for them."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of a base network of your own: ``--model.options.depth 3``."""
    start: Path | None = None
    """Weights to start from (fine-tuning): a name that comes with rirn, or a file. By default they are random."""

    def __post_init__(self) -> None:
        if self.start is None:
            vars(self).update(vars(self.filled(DEFAULTS)))

    @classmethod
    def empty(cls) -> ModelConfig:
        """Return a config with nothing set, for a command line to fill: what it leaves out may come from ``start``."""
        model = cls()
        vars(model).update({f.name: None for f in dataclasses.fields(cls) if f.name != "options"})
        return model

    def filled(self, known: Mapping[str, Any]) -> ModelConfig:
        """Return a copy with unset values taken from ``known``; what has no field becomes a further option."""
        missing = [name for name, value in vars(self).items() if value is None and name != "start"]
        filled = copy.copy(self)
        vars(filled).update({name: known[name] for name in missing if name in known})
        filled.options = {n: v for n, v in known.items() if n not in vars(self)} | self.options
        return filled

    def arguments(self) -> dict[str, object]:
        """Return the arguments of ``create_model`` except the name."""
        options = {"width": self.width, "residual": self.residual, "atb_decay": self.atb_decay}
        given = {
            "variant": self.variant,
            "blocks": self.blocks,
            "past": self.past,
            "future": self.future,
            "half_resolution": self.half_resolution or None,  # checkpoints of earlier versions do not name it
        }
        return options | {name: value for name, value in given.items() if value is not None} | self.options


MIXTURE = {"camera": Camera, "pairing": Pairing, "shutter": Shutter, "scene": Scene}
"""Groups of settings nested in those of the data."""


def whole_mixture(data: dict[str, Any]) -> dict[str, Any]:
    """Settings of the data from a log, a checkpoint or a results file; options added since then take their defaults."""
    groups = {name: kind() for name, kind in MIXTURE.items() if data.get(name) is not None}
    return data | {name: _as_in_file(defaults) | data[name] for name, defaults in groups.items()}


def _as_in_file(settings: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dataclasses.asdict(settings)))  # pairs become lists


@dataclasses.dataclass
class DataConfig:
    """Where the clips come from and how they are cut."""

    train: list[Path | dict[str, Any]] | Path
    """What to learn from: a folder of sequences, or a list of such folders and of sources with ``path``, ``kind`` and
    ``share``, see :class:`rirn.data.Source`."""
    root: Path | None = None
    """Folder that relative paths of ``train`` and ``val`` start from; by default the current one."""
    camera: Camera | None = None
    """What cameras and codecs do to the clips; by default nothing."""
    pairing: Pairing = dataclasses.field(default_factory=Pairing)
    """What is done to sources of kind ``pairs``; by default nothing."""
    shutter: Shutter = dataclasses.field(default_factory=Shutter)
    """Exposures made from sources of kind ``highspeed``."""
    scene: Scene = dataclasses.field(default_factory=Scene)
    """Scenes made from sources of kind ``photos``."""
    split: str | None = None
    """Use only this split of ``train``, for folders that hold a whole data set; see :func:`rirn.data.find_sequences`."""
    val: list[Path] | Path = dataclasses.field(default_factory=list)
    """A folder of sequences to watch, or a list of them; none of their frames is learnt from."""
    frames: int = 12
    """Frames per clip."""
    chunk: int | None = None
    """Frames per step: the clip is processed in chunks; the state carries over from one to the next, the gradient does not
    (truncated back-propagation through time). By default the whole clip is one step."""
    crop: int = 256
    """Side of the square crop, pixels."""
    batch: int = 16
    """Clips per step, over all processes."""
    workers: int = 2
    """Processes that read ahead, per training process; 0 reads in the training loop itself."""
    cache_mib: int = 2048
    """Memory for decoded frames, MiB; see :class:`rirn.data.ClipDataset`."""

    def __post_init__(self) -> None:
        entries = self.train if isinstance(self.train, list) else [self.train]
        self.train = [Source.of(entry) if isinstance(entry, Mapping) else entry for entry in entries]
        self.val = self.val if isinstance(self.val, list) else [self.val]

    @property
    def mixed(self) -> bool:
        """Whether clips are more than crops of folders of pairs."""
        changed = self.camera is not None or self.pairing != Pairing()
        return changed or any(isinstance(entry, Source) for entry in self.train)

    @property
    def sources(self) -> list[Source]:
        """What to learn from, folders as pairs."""
        sources = [entry if isinstance(entry, Source) else Source(entry) for entry in self.train]
        return [dataclasses.replace(source, path=self.below_root(source.path)) for source in sources]

    def below_root(self, path: Path) -> Path:
        """A path of ``train`` or ``val`` as it is on disk."""
        return path if self.root is None else self.root.expanduser() / path

    @property
    def chunks(self) -> int:
        """Steps per batch of clips."""
        return 1 if self.chunk is None else self.frames // self.chunk


@dataclasses.dataclass
class OptimConfig:
    """The optimiser and its learning rate."""

    loss: str = "l1"
    """``l1``: mean absolute error, as in the paper; ``psnr``: see :mod:`rirn.training.losses`; or a registered one."""
    lr: float = 1e-4
    steps: int = 100_000
    """Length of the run; ignored if ``epochs`` is given."""
    epochs: int | None = None
    """Length of the run in epochs; an epoch has as many clips as the sequences have valid starts."""
    schedule: Literal["cosine", "anneal"] = "cosine"
    """``cosine``: half a cosine down to zero; ``anneal``: multiply by ``anneal_factor`` at each of ``anneal_at``."""
    anneal_at: list[int] = dataclasses.field(default_factory=list)
    """In epochs if the length of the run is in epochs, else in steps."""
    anneal_factor: float = 0.5
    warmup: int = 0
    """Steps of linear warm-up to the learning rate."""
    clip_norm: float = 20.0
    """Largest norm of the gradient over all parameters."""
    name: Literal["adam", "muon"] = "adam"
    """``adam``, as in the paper, or ``muon``: see :mod:`rirn.training.optimizers`."""
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    """Factors on the learning rate of the model's parts: ``--optim.rates.irm 3``."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which is then validated and written instead; 0: none."""
    max_nonfinite: int = 10
    """Consecutive steps with a non-finite gradient, all skipped, before the run stops."""

    def in_steps(self, starts: int, data: DataConfig) -> OptimConfig:
        """Return a copy with all lengths in steps, for data with this many valid starts of a clip."""
        if self.epochs is None:
            return self

        def steps(epochs: int) -> int:
            return max(1, epochs * starts // data.batch) * data.chunks

        return dataclasses.replace(
            self, epochs=None, steps=steps(self.epochs), anneal_at=[steps(e) for e in self.anneal_at]
        )


@dataclasses.dataclass
class TrainConfig:
    """A training run."""

    out: Path
    """Folder for checkpoints, the log and the final weights."""
    data: DataConfig
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig.empty)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    seed: int = 0
    device: str = "auto"
    """cpu, cuda, ...; auto uses a GPU if there is one. Under torchrun each process uses the GPU of its local rank."""
    backend: str = "auto"
    """Implementation of the ops: auto, reference, cpu, cuda or triton."""
    precision: Literal["fp32", "bf16", "fp16", "fast"] = "fp32"
    """``bf16``, ``fp16``: autocast; the weights stay in fp32, and fp16 scales the loss. ``fast``: fp32 except for products on
    CPUs with AVX512-BF16, see :func:`rirn.ops.use_precision`."""
    recompute: bool = False
    """Keep only the state of each frame and recompute the activations in the backward pass (activation checkpointing):
    the same gradients with less memory and more time."""
    hold_mib: int | None = None
    """CPU memory, in MiB, for the images between the layers of convolution chains, which are otherwise recomputed in the
    backward pass; see :func:`rirn.ops.hold_activations`. By default a quarter of the machine's."""
    compile: bool = False
    """Train through torch.compile."""
    channels_last: bool = True
    """Keep convolution weights in channels-last order, which the CPU and GPU convolution libraries prefer."""
    save_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints to keep."""
    print_every: int = 100
    """Steps between lines of progress where there is no terminal for a bar."""
    val_every: int = 1000
    """Steps between validations, which also write a picture and gate statistics."""
    resume: str = "auto"
    """``auto``: resume from the newest intact checkpoint in ``out`` if there is one; ``never``; or a checkpoint's path."""

    def __post_init__(self) -> None:
        self.out = Path(self.out)
        if self.model.start is None:
            self.model = self.model.filled(DEFAULTS)
        optim, data = self.optim, self.data
        positive = {
            "data.frames": data.frames,
            "data.crop": data.crop,
            "data.batch": data.batch,
            "optim.lr": optim.lr,
            "optim.steps": optim.steps,
            "optim.epochs": 1 if optim.epochs is None else optim.epochs,
            "optim.anneal_factor": optim.anneal_factor,
            "optim.clip_norm": optim.clip_norm,
            "optim.max_nonfinite": optim.max_nonfinite,
            "save_every": self.save_every,
            "keep": self.keep,
            "print_every": self.print_every,
            "val_every": self.val_every,
        }
        for name, value in positive.items():
            if not value > 0:
                raise RirnError(f"{name} must be positive; got {value}")
        not_negative = {
            "data.workers": data.workers,
            "data.cache_mib": data.cache_mib,
            "optim.warmup": optim.warmup,
            "seed": self.seed,
            "hold_mib": 0 if self.hold_mib is None else self.hold_mib,
            **{f"optim.rates.{part}": rate for part, rate in optim.rates.items()},
        }
        for name, value in not_negative.items():
            if not value >= 0:
                raise RirnError(f"{name} must not be negative; got {value}")
        if not 0 <= optim.ema < 1:
            raise RirnError(f"optim.ema must lie in [0, 1); got {optim.ema}")
        choices = {
            "optim.loss": (optim.loss, _losses(optim.loss)),
            "optim.schedule": (optim.schedule, ("cosine", "anneal")),
            "precision": (self.precision, PRECISIONS),
        }
        for name, (value, known) in choices.items():
            if value not in known:
                raise RirnError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        if data.chunk is not None and (data.chunk < 1 or data.frames % data.chunk):
            raise RirnError(f"data.chunk must divide data.frames, now {data.frames}; got {data.chunk}")
        if self.compile and self.recompute:
            raise RirnError(
                "torch.compile decides itself what to recompute; give compile or recompute, not both"
            )

    def plain(self) -> dict[str, Any]:
        """Return the settings as plain JSON or YAML values; ``rirn train --config`` reads them back."""
        return _plain(dataclasses.asdict(self))

    def save(self, path: Path) -> None:
        """Write all settings, including defaults, as YAML."""
        with replacing(path) as partial:
            partial.write_text(yaml.safe_dump(self.plain(), sort_keys=False), encoding="utf-8")


def _losses(wanted: str) -> Collection[str]:
    """Names of losses, including those of plugins unless the wanted one comes with the package."""
    if wanted in OWN_LOSSES:
        return OWN_LOSSES
    find_plugins()
    losses = sys.modules.get(
        "rirn.training.losses"
    )  # there if anything registered one; torch takes seconds to import
    return OWN_LOSSES if losses is None else losses.LOSSES


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
