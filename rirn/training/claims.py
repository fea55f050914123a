"""The trainings behind docs/results.md: every network on the same clips, scored frame by frame.

The bases are compared at lengths of their own: the longest for IFI-RNN, which is the one with every addition.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rirn import ops
from rirn.data.sequences import find_sequences
from rirn.distributed import join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import evaluate
from rirn.training.config import TrainConfig
from rirn.training.recipes import load_recipe
from rirn.training.results import (
    append_result,
    check_settings,
    log_facts,
    machine,
    read_results,
    seconds,
    settings,
    take_turns,
    weights_of,
)
from rirn.training.tables import MINI_OPTIONS
from rirn.training.testsets import FOOTAGE, KINDS, PAIRS, PHOTOS, write_test_sets
from rirn.training.trainer import train
from rirn.weights import load

RECIPE = "claims"
PARTS = ("real", *KINDS)
"""Of what is scored."""
FOLDERS = (PAIRS, FOOTAGE, PHOTOS)
"""Folders of the data root beside those that the recipe names."""


@dataclasses.dataclass(frozen=True)
class Study:
    """Networks on one base that are compared with each other."""

    networks: tuple[str, ...]
    seeds: int
    steps: int


def _study(base: str, additions: str, seeds: int, steps: int) -> Study:
    return Study((base, *(f"{base}+{name}" for name in additions.split())), seeds, steps)


STUDIES = (
    _study("ifi-rnn", "control irm atb dtb rirn", 3, 10_000),
    _study("gru", "control rirn", 2, 3_000),
    _study("lstm", "control rirn", 2, 3_000),
    _study("rdbn", "gsa irm rirn", 2, 3_000),
)


@dataclasses.dataclass(frozen=True)
class FrameScores:
    """PSNR in dB of each frame of a sequence, to a hundredth; none where nothing is wrong."""

    blurry: tuple[float | None, ...]
    restored: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training, and its score on every frame."""

    network: str
    seed: int
    scores: dict[str, dict[str, FrameScores]]
    """By part and sequence."""
    curve: dict[str, list[float | None]]
    """``step``, and what was gained over the input in dB on each of a few clips after so many steps; none as above."""
    seconds: float
    """Of the steps, on the machine."""
    settings: dict[str, Any]
    machine: dict[str, Any]

    @property
    def base(self) -> str:
        return self.network.partition("+")[0]

    @property
    def steps(self) -> int:
        return self.settings["optim"]["steps"]

    def to_line(self) -> str:
        fields = dataclasses.asdict(self)
        return json.dumps(fields, separators=(",", ":"), allow_nan=False) + "\n"

    @staticmethod
    def from_line(line: str) -> Trained:
        fields = json.loads(line)
        scores = {
            part: {
                name: FrameScores(**{half: tuple(values) for half, values in frames.items()})
                for name, frames in sequences.items()
            }
            for part, sequences in fields["scores"].items()
        }
        return Trained(**fields | {"scores": scores})


def plan(data: Path, out: Path, *, device: str = "auto", backend: str = "auto") -> list[TrainConfig]:
    """All trainings in their order: study by study, and in each seed by seed, so that what is there can be compared early.

    Args:
        data: folder with what the recipe names and :data:`FOLDERS`.
        out: folder of all runs.
        device: as for a training.
        backend: as for a training.
    """
    configs = []
    for study in STUDIES:
        for seed in range(study.seeds):
            for network in study.networks:
                config = load_recipe(
                    RECIPE, model=network, val=[(out / "watch").resolve()], out=out / network / f"seed-{seed}"
                )
                config.data.root = data
                options = MINI_OPTIONS.get(network.partition("+")[0], {})
                config.model = dataclasses.replace(config.model, **options)
                config.optim.steps = study.steps
                configs.append(dataclasses.replace(config, seed=seed, device=device, backend=backend))
    return configs


def status(config: TrainConfig, results: Iterable[Trained]) -> str:
    """What there is of a training: ``scored``, ``trained``, ``begun`` or ``new``."""
    if _is_scored(config, results):
        return "scored"
    if weights_of(config).exists():
        return "trained"
    return "begun" if any(config.out.glob("checkpoint-*.pt")) else "new"


def _is_scored(config: TrainConfig, results: Iterable[Trained]) -> bool:
    wanted = (config.model.name, config.seed, settings(config))
    return any((r.network, r.seed, r.settings) == wanted for r in results)


def check_data(configs: Sequence[TrainConfig]) -> None:
    """Look whether all folders are there.

    Raises:
        RirnError: one is not.
    """
    data = configs[0].data
    for path in [*(source.path for source in data.sources), *(data.below_root(path) for path in FOLDERS)]:
        if not path.is_dir():
            raise RirnError(f"there is no folder {path}; `rirn claims` needs it, see docs/training.md")


def run(configs: Sequence[TrainConfig], file: Path, *, say: Callable[[str], None] = print) -> list[Trained]:
    """Train and score what ``file`` does not have yet; all that it has then.

    A training that was cut off is resumed, and several processes may be given the same list. One that fails does not stop the
    others.

    Args:
        configs: of :func:`plan`.
        file: results, a line of JSON each.
        say: gets a line about each training.

    Raises:
        RirnError: the data are not there, the file is none of results, or some trainings failed.
    """
    check_data(configs)
    data, out = configs[0].data.root, configs[0].data.val[0].parent
    write_test_sets(data, out)
    failed: dict[Path, str] = {}

    def done(config: TrainConfig) -> bool:
        return config.out in failed or _is_scored(config, read_results(file, Trained.from_line))

    def work(config: TrainConfig) -> None:
        try:
            append_result(file, _train_and_score(config, out, say))
        except RirnError as error:
            failed[config.out] = str(error)
            say(f"{config.model.name}, seed {config.seed}: {error}")

    take_turns(configs, done=done, lock=lambda config: config.out.with_suffix(".lock"), work=work)
    if failed:
        first = next(iter(failed))
        raise RirnError(
            f"{len(failed)} of {len(configs)} trainings failed, that in {first} because: {failed[first]}"
        )
    return read_results(file, Trained.from_line)


def _train_and_score(config: TrainConfig, out: Path, say: Callable[[str], None]) -> Trained:
    if weights_of(config).exists():
        check_settings(config)
    else:
        say(f"training {config.model.name}, seed {config.seed}, {config.optim.steps} steps")
        train(config)
    folders = {part: out / "test" / part for part in KINDS} | {"real": config.data.below_root(PAIRS)}
    scores = {}
    with join_world(config.device) as world, ops.use_backend(config.backend):
        model = load(weights_of(config), device=world.device)
        for part in PARTS:
            found = evaluate(model, find_sequences(folders[part]))
            scores[part] = {score.sequence: _rounded(score.per_frame) for score in found}
    header, lines = log_facts(config)
    return Trained(
        network=config.model.name,
        seed=config.seed,
        scores=scores,
        curve=_curve(lines),
        seconds=seconds(lines),
        settings=settings(config),
        machine=machine(header),
    )


def _rounded(frames: Iterable[Any]) -> FrameScores:
    blurry, restored = zip(*((frame.psnr_in, frame.psnr_out) for frame in frames), strict=True)
    return FrameScores(
        *(tuple(round(v, 2) if math.isfinite(v) else None for v in half) for half in (blurry, restored))
    )


def _curve(lines: Iterable[dict[str, Any]]) -> dict[str, list[float | None]]:
    """The validations of a log."""
    validations = [line for line in lines if "sequences" in line]
    curve: dict[str, list[float | None]] = {"step": [line["step"] + 1 for line in validations]}
    for name in validations[0]["sequences"] if validations else ():
        gains = (line["sequences"][name] for line in validations)
        curve[name] = [gain if math.isfinite(gain) else None for gain in gains]
    return curve
