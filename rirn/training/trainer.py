"""A training run from its settings to its weights."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from rirn import ops
from rirn.data.camera import IDEAL
from rirn.data.clips import ClipDataset
from rirn.data.mixture import MixedClips
from rirn.data.sequences import Sequence, find_sequences, numbered
from rirn.data.sources import Pairing
from rirn.distributed import World, join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import Score, evaluate, frame_mean
from rirn.evaluation.sharding import share
from rirn.models import create_model
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.registry import recipes as model_recipes
from rirn.training.checkpoint import Checkpoints
from rirn.training.config import DEFAULTS, DataConfig, OptimConfig, TrainConfig, whole_mixture
from rirn.training.learner import Learner, Outcome
from rirn.training.loader import NumberedClips, Piece, pieces
from rirn.training.log import RunLog, peak_memory_mib
from rirn.training.losses import Loss
from rirn.training.probe import probe
from rirn.training.schedule import learning_rate
from rirn.weights import load, save_weights


def train(
    config: TrainConfig,
    *,
    dataset: Dataset | None = None,
    loss: Loss | None = None,
    callbacks: ListLike[Callback] = (),
) -> Path:
    """Train a model and return the path of its weights, ``out/weights.safetensors``.

    An interrupted run resumes from its last checkpoint exactly as if it had never stopped: clips are numbered, and all
    random and optimiser state is in the checkpoint. Each step writes one line to ``out/log.jsonl``.
    Under ``torchrun`` all its processes train one model; see docs/training.md.

    Args:
        config: all settings.
        dataset: your own clips instead of ``config.data.train``: each item is a blurry and a sharp clip, float32
            [T, 3, H, W] in [0, 1] with the T of ``config.data.frames``. Each epoch uses them in a different order.
        loss: a loss of restored and sharp images [N, T, 3, H, W], instead of ``config.optim.loss``.
        callbacks: called after each step with its number from 1, its values as in the log, and the model.

    Raises:
        RirnError: data, model or checkpoint do not fit the settings, nothing can be written, or the gradient stays non-finite.
    """
    most = None if config.hold_mib is None else config.hold_mib << 20
    with join_world(config.device) as world, ops.use_backend(config.backend), ops.hold_activations(most):
        return _Run(config, world, dataset, loss, callbacks).finish()


Callback = Callable[[int, dict[str, Any], VideoDeblurrer], object]


class _Run:
    """The parts of a run and its progress."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        dataset: Dataset | None,
        loss: Loss | None,
        callbacks: ListLike[Callback],
    ):
        self.callbacks = callbacks
        if world.main:
            config.out.mkdir(parents=True, exist_ok=True)
        self.checkpoints = Checkpoints(config.out, config.keep)
        content = world.from_main(lambda: self.checkpoints.load(config.resume))
        start = None
        if config.model.start is not None:
            start = load(config.model.start) if content is None else None
            known = start.config if start is not None else _options_of(content)
            config = dataclasses.replace(config, model=config.model.filled(DEFAULTS | known))
        self.config, self.world = config, world
        torch.manual_seed(config.seed)
        model = _make_model(config).to(world.device)
        if config.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.clips = (
            _clips(config.data, config.seed)
            if dataset is None
            else NumberedClips(dataset, frames=config.data.frames, seed=config.seed)
        )
        seen: Counter[str] = Counter()
        self.validation = [
            dataclasses.replace(sequence, name=numbered(sequence.name, seen))
            for sequence in _all_sequences([config.data.below_root(path) for path in config.data.val])
        ]
        self.optim = config.optim.in_steps(len(self.clips), config.data)
        self.first = 0 if content is None else content["step"]
        if start is not None:
            _start_from(model, start, config.model.start)
        self.learner = Learner(model, config, self.optim, world, loss)
        if content is not None:
            self._check_identity(content)
            self._restore(content)
        self.seconds = self.waited = 0.0

    def _check_identity(self, content: dict[str, Any]) -> None:
        """Refuse a checkpoint with other settings, naming them; only the length of a run may change, to what is still ahead."""
        before, now = _named(content.get("identity")), _named(self._identity())
        if before is None:
            raise RirnError(
                f"the checkpoint in {self.config.out} does not say what it belongs to; give another --out, or --resume never"
            )
        unknown = [
            name for name in ("data.split", "data.sequences") if name not in before
        ]  # earlier versions
        different = [
            name for name in before | now if before.get(name) != now.get(name) and name not in unknown
        ]
        steps = now["optim.steps"]
        if "optim.steps" in different and self.first < steps:
            different.remove("optim.steps")
            if not different and self.world.main:
                how = "lengthened" if before["optim.steps"] < steps else "shortened"
                print(
                    f"the run is {how} from {before['optim.steps']} to {steps} steps; "
                    "the learning rate follows the new length from here on",
                    file=sys.stderr,
                )
        if different:
            name = different[0]
            more = f" (and {', '.join(different[1:])})" if different[1:] else ""
            values = f"{name} was {before.get(name)!r:.100} and is {now.get(name)!r:.100}"
            what = "names or lengths of the sequences differ" if name == "data.sequences" else values
            raise RirnError(
                f"the checkpoint in {self.config.out} belongs to other settings: {what}{more}; give another --out, or "
                "--resume never"
            )

    def _restore(self, content: dict[str, Any]) -> None:
        try:
            self.learner.load_state_dict(content)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise RirnError(
                f"the checkpoint in {self.config.out} is damaged or of another version of rirn ({reason}); "
                "give another --out, or --resume never"
            ) from error

    def finish(self) -> Path:
        """Do the remaining steps."""
        config, world, steps = self.config, self.world, self.optim.steps
        if world.main:
            config.save(config.out / "config.yaml")
        bar = tqdm(
            total=steps, initial=self.first, unit="step", disable=None if world.main else True, leave=True
        )
        supply = pieces(
            self.clips,
            config.data,
            world,
            first=self.first,
            steps=steps,
            delay=self.learner.model.delay,
        )
        log = RunLog(config, world, self.first, steps=steps, clip_starts=len(self.clips))
        weights = config.out / "weights.safetensors"
        # Closing the supply ends its worker processes.
        with log, bar, contextlib.closing(supply):
            for step in range(self.first, steps):
                self._step(step, supply, log, bar)
            if world.main:
                save_weights(self.learner.result, weights)
                if self.learner.average is not None:
                    save_weights(self.learner.model, config.out / "weights-last.safetensors")
            if steps > self.first:  # the last line, which says that the weights are of this run
                share = self.waited / self.seconds
                log.write(steps - 1, "run", wait_share=round(share, 4), skipped=self.learner.skipped)
        return weights

    def _step(self, step: int, supply: Iterator[Piece], log: RunLog, bar: tqdm) -> None:
        started = time.perf_counter()
        piece = next(supply)
        waited = time.perf_counter() - started
        outcome = self.learner.step(piece, step)
        seconds = time.perf_counter() - started
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited
        self._log_step(step, piece, outcome, seconds, waited, log)
        if (
            bar.disable
            and self.world.main
            and ((step + 1) % self.config.print_every == 0 or step + 1 == self.optim.steps)
        ):
            left = (self.optim.steps - step - 1) * self.seconds / (step + 1 - self.first) / 60
            print(
                f"step {step + 1} of {self.optim.steps}: loss {outcome.loss:.4g}, about {left:.0f} min left",
                file=sys.stderr,
            )
        bar.set_postfix(loss=f"{outcome.loss:.4f}", wait=f"{self.waited / self.seconds:.0%}", refresh=False)
        bar.update()
        if self.learner.skipped_in_a_row >= self.optim.max_nonfinite:
            raise RirnError(
                f"the gradient was not finite in {self.learner.skipped_in_a_row} steps in a row; the log in "
                f"{self.config.out} names their clips; lower optim.lr, now {self.optim.lr}"
            )
        done = step + 1 == self.optim.steps
        if done or (step + 1) % self.config.val_every == 0:
            self._validate(step, piece, log, bar)
        if done or (step + 1) % self.config.save_every == 0:
            content = {"identity": self._identity(), "step": step + 1, **self.learner.state_dict()}
            if self.world.main:
                self.checkpoints.save(step + 1, content)

    def _log_step(
        self, step: int, piece: Piece, outcome: Outcome, seconds: float, waited: float, log: RunLog
    ) -> None:
        frames = self.config.data.batch * piece.blurry.shape[1]
        figures: dict[str, Any] = {
            "loss": outcome.loss,
            "grad_norm": outcome.grad_norm,
            "lr": learning_rate(self.optim, step),
            "seconds": round(seconds, 4),
            "wait_seconds": round(waited, 4),
            "frames_per_second": round(frames / seconds, 3),
            "peak_memory_mib": round(peak_memory_mib(self.world.device), 1),
        }
        if self.learner.scaler.is_enabled():
            figures["loss_scale"] = self.learner.scaler.get_scale()
        if not outcome.applied:
            # The clips of the joint batch: this is the main process, which has its first share.
            numbers = range(piece.numbers[0], piece.numbers[0] + self.config.data.batch)
            figures["skipped"] = "no state to go on from" if outcome.lost else "not finite"
            figures["clips"] = [self.clips.source(number) for number in numbers]
        log.write(step, "train", **figures)
        for callback in self.callbacks:
            callback(step + 1, figures, self.learner.model)

    def _validate(self, step: int, piece: Piece, log: RunLog, bar: tqdm) -> None:
        model = self.learner.result
        training = model.training
        if self.world.main:
            log.probe(step, probe(model, *self._opening(piece)))
        scores = self._scores(model.eval())
        if scores:
            figures = {f: round(frame_mean(scores, f), 3) for f in ("psnr_in", "psnr_out")}
            gains = {s.sequence: round(s.psnr_out - s.psnr_in, 3) for s in scores}
            log.write(step, "validation", **figures, sequences=gains)
            bar.write(
                f"step {step + 1}: validation {figures['psnr_in']:.2f} -> {figures['psnr_out']:.2f} dB",
                sys.stderr,
            )
        model.train(training)

    def _scores(self, model: VideoDeblurrer) -> list[Score] | None:
        """Return scores of all validation sequences, each computed by one process; None except in the main one."""
        mine = share(self.validation, self.world.rank, self.world.size)
        made = evaluate(model, [self.validation[i] for i in mine])
        return self.world.collect(dict(zip(mine, made, strict=True)))

    def _opening(self, piece: Piece) -> tuple[Tensor, Tensor]:
        """Return the first frames of a piece's first clip, blurry and sharp, whichever part of the clip the piece is."""
        return tuple(
            clip[: piece.blurry.shape[1]].to(self.world.device) for clip in self.clips[piece.numbers[0]]
        )

    def _identity(self) -> list[Any]:
        """The settings that a resumed run must share with the one it continues."""
        config = self.config
        data = {name: getattr(config.data, name) for name in ("frames", "chunk", "crop", "batch")}
        optim = dataclasses.asdict(self.optim)
        del optim["max_nonfinite"]
        model = [config.model.name, config.model.arguments()]
        if config.data.mixed:
            mixture = {name: config.plain()["data"][name] for name in ("train", "camera", "shutter", "scene")}
            if config.data.pairing != Pairing():
                mixture["pairing"] = config.plain()["data"]["pairing"]
            data["mixture"] = mixture
        data |= {"split": config.data.split, "sequences": self.clips.digest()}
        parts = [model, optim, data, len(self.clips), config.seed, config.precision]
        return json.loads(json.dumps(parts))


def _make_model(config: TrainConfig) -> VideoDeblurrer:
    model = create_model(config.model.name, **config.model.arguments())
    if model.dropped:
        raise RirnError(
            f"{config.model.name} with ends='drop' gives no image for the first and last frames of a clip, and training needs one"
            " for each; convert or make it with ends='replicate'"
        )
    if config.data.chunk is not None and config.data.chunk <= model.delay:
        raise RirnError(
            f"data.chunk must be more than the {model.delay} frames that {config.model.name} looks ahead; "
            f"got {config.data.chunk}"
        )
    return model


def _named(identity: Any) -> dict[str, Any] | None:
    """The settings stored in a checkpoint, by name; None if it does not have the known form."""
    try:
        (name, options), optim, data, starts, seed, precision = identity
        optim = dataclasses.asdict(OptimConfig()) | optim  # options added since then take their defaults
        data = data | ({"mixture": whole_mixture(data["mixture"])} if "mixture" in data else {})
        groups = {"model": {"name": name, **options}, "optim": optim, "data": data}
        named = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
        return named | {"the number of clips": starts, "seed": seed, "precision": precision}
    except (TypeError, ValueError, AttributeError):
        return None


def _clips(data: DataConfig, seed: int) -> ClipDataset | MixedClips:
    same = {"frames": data.frames, "crop": data.crop, "seed": seed, "cache_mib": data.cache_mib}
    if data.mixed:
        camera = IDEAL if data.camera is None else data.camera
        return MixedClips(
            data.sources,
            camera=camera,
            pairing=data.pairing,
            shutter=data.shutter,
            scene=data.scene,
            split=data.split,
            **same,
        )
    return ClipDataset(_all_sequences([source.path for source in data.sources], data.split), **same)


def _all_sequences(folders: list[Path], split: str | None = None) -> list[Sequence]:
    return [sequence for folder in folders for sequence in find_sequences(folder, split=split)]


def _start_from(model: VideoDeblurrer, start: VideoDeblurrer, path: Path) -> None:
    """Copy weights into a model that computes the same, which tensor shapes alone do not ensure."""
    ours, theirs = _all_options(model), _all_options(start)
    if ours != theirs:
        names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        named = dict.fromkeys(["name", *names])
        parts = (", ".join(f"{n} {options[n]}" for n in named if n in options) for options in (theirs, ours))
        raise RirnError(
            f"the weights {path} belong to the model of {next(parts)}, not of {next(parts)}; "
            "leave these settings of model out, where there are such settings, or leave out model.start"
        )
    model.load_state_dict(start.state_dict())


def _options_of(content: dict[str, Any]) -> dict[str, Any]:
    """Settings of the model in a checkpoint; none if it does not tell."""
    try:
        name, options = content["identity"][0]
        return {"name": name, **options}
    except (LookupError, TypeError, ValueError):
        return {}


def _all_options(model: VideoDeblurrer) -> dict[str, Any]:
    """The name of a model and all its options, including defaults."""
    recipe = model_recipes()[model.config["name"]]
    parameters = [*inspect.signature(recipe.base).parameters.values()]
    parameters += inspect.signature(create_model).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return defaults | dict(recipe.fixed) | model.config
