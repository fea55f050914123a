"""The trainings behind docs/results.md: every network on the same clips, scored frame by frame.

Each base has its own training length: the longest is for IFI-RNN, the only one with every addition.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rirn import ops
from rirn.data.sequences import find_sequences
from rirn.distributed import join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import evaluate
from rirn.training.config import TrainConfig
from rirn.training.recipes import load_recipe
from rirn.training.results import (
    append_result,
    is_trained,
    log_facts,
    machine,
    read_results,
    seconds,
    settings,
    take_turns,
    weights_of,
    whole_settings,
)
from rirn.training.tables import MINI_OPTIONS
from rirn.training.testsets import FOOTAGE, KINDS, PAIRS, PHOTOS, write_test_sets
from rirn.training.trainer import train
from rirn.weights import load

RECIPE = "claims"
PARTS = ("real", *KINDS)
"""Parts of the test set."""
FOLDERS = (PAIRS, FOOTAGE, PHOTOS)
"""Folders of the data root besides those that the recipe names."""


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
    """PSNR in dB of each frame of a sequence, to a hundredth; None for a frame without error."""

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
    """``step``, and the gain over the input in dB after that many steps on each of a few clips; None as above."""
    seconds: float
    """Duration of the steps, on the machine."""
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
        return Trained(**fields | {"scores": scores, "settings": whole_settings(fields["settings"])})


@dataclasses.dataclass(frozen=True)
class Trial:
    """A network with a few settings changed."""

    network: str
    name: str
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    optim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the model."""

    @property
    def label(self) -> str:
        return f"{self.network}, {self.name}"


LONG = {"frames": 48, "chunk": 12, "batch": 2}
"""The same number of frames per step."""
TRIALS = (
    Trial("ifi-rnn+rirn", "longer clips", data=LONG),
    Trial("ifi-rnn+control", "longer clips", data=LONG),
    Trial("ifi-rnn+rirn", "identity_init", options={"identity_init": True}),
    Trial("ifi-rnn+rirn", "three times the rate", optim={"rates": {"irm": 3.0, "atb": 3.0}}),
    Trial("ifi-rnn+rirn", "max_weight 2", options={"atb_max_weight": 2.0}),
    Trial("ifi-rnn+rirn", "Muon", optim={"name": "muon"}),
    Trial("ifi-rnn+control", "Muon", optim={"name": "muon"}),
)
"""Changes that might let RIRN help more than with the settings of the paper and the recipe."""
TRIAL_SEED = 0


class Run(NamedTuple):
    """A training to do."""

    network: str
    """The network, for a trial followed by its name."""
    config: TrainConfig


def plan(
    data: Path, out: Path, *, trials: bool = False, device: str = "auto", backend: str = "auto"
) -> list[Run]:
    """Return all trainings in order: study by study, and within each seed by seed, so that early results can be compared.

    Args:
        data: folder with what the recipe names and :data:`FOLDERS`.
        out: folder of all runs.
        trials: also :data:`TRIALS`, last.
        device: as for a training.
        backend: as for a training.
    """

    def settings_of(network: str, folder: str, seed: int, steps: int) -> TrainConfig:
        config = load_recipe(
            RECIPE, model=network, val=[(out / "watch").resolve()], out=out / folder / f"seed-{seed}"
        )
        config.data.root = data
        options = MINI_OPTIONS.get(network.partition("+")[0], {})
        config.model = dataclasses.replace(config.model, **options)
        config.optim.steps = steps
        return dataclasses.replace(config, seed=seed, device=device, backend=backend)

    runs = [
        Run(network, settings_of(network, network, seed, study.steps))
        for study in STUDIES
        for seed in range(study.seeds)
        for network in study.networks
    ]
    for trial in TRIALS if trials else ():
        folder = trial.label.replace(", ", "-").replace(" ", "-")
        config = settings_of(trial.network, folder, TRIAL_SEED, STUDIES[0].steps)
        config.model.options = dict(trial.options)
        config.data = dataclasses.replace(config.data, **trial.data)
        config.optim = dataclasses.replace(config.optim, **trial.optim)
        runs.append(Run(trial.label, config))
    return runs


def is_scored(run: Run, results: Iterable[Trained]) -> bool:
    """Tell whether there is a result of this training."""
    return bool(of_plan(results, [run]))


def of_plan(results: Iterable[Trained], runs: Iterable[Run]) -> list[Trained]:
    """Return the results with the settings of these trainings: others cannot be compared."""
    wanted = {(run.network, run.config.seed): settings(run.config) for run in runs}
    return [r for r in results if wanted.get((r.network, r.seed)) == r.settings]


def check_data(runs: Sequence[Run]) -> None:
    """Check that all folders exist.

    Raises:
        RirnError: one does not.
    """
    data = runs[0].config.data
    for path in [*(source.path for source in data.sources), *(data.below_root(path) for path in FOLDERS)]:
        if not path.is_dir():
            raise RirnError(f"there is no folder {path}; `rirn claims` needs it, see docs/training.md")


def train_all(runs: Sequence[Run], file: Path, *, say: Callable[[str], None] = print) -> list[Trained]:
    """Train and score what is missing in ``file``, and return all its results.

    An interrupted training is resumed, and several processes may be given the same list. One that fails does not stop the
    others.

    Args:
        runs: from :func:`plan`.
        file: results, one line of JSON each.
        say: called with a line about each training.

    Raises:
        RirnError: data are missing, the file is not a file of results, or some trainings failed.
    """
    check_data(runs)
    data, out = runs[0].config.data.root, runs[0].config.data.val[0].parent
    write_test_sets(data, out)
    failed: dict[Path, str] = {}

    def done(run: Run) -> bool:
        return run.config.out in failed or is_scored(run, read_results(file, Trained.from_line))

    def work(run: Run) -> None:
        try:
            append_result(file, _train_and_score(run, out, say))
        except RirnError as error:
            failed[run.config.out] = str(error)
            say(f"{run.network}, seed {run.config.seed}: {error}")

    take_turns(runs, done=done, lock=lambda run: run.config.out.with_suffix(".lock"), work=work)
    if failed:
        first = next(iter(failed))
        raise RirnError(
            f"{len(failed)} of {len(runs)} trainings failed, that in {first} because: {failed[first]}"
        )
    return read_results(file, Trained.from_line)


def _train_and_score(run: Run, out: Path, say: Callable[[str], None]) -> Trained:
    config = run.config
    if not is_trained(config):
        say(f"training {run.network}, seed {config.seed}, {config.optim.steps} steps")
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
        network=run.network,
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
    """Collect the validations of a log."""
    validations = [line for line in lines if "sequences" in line]
    curve: dict[str, list[float | None]] = {"step": [line["step"] + 1 for line in validations]}
    for name in validations[0]["sequences"] if validations else ():
        gains = (float(line["sequences"][name]) for line in validations)
        curve[name] = [gain if math.isfinite(gain) else None for gain in gains]
    return curve
