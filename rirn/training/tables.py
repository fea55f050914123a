"""Reproduce the paper's tables: train each row, score it, and print it beside the paper's numbers."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

from rirn import ops
from rirn.data.sequences import find_sequences
from rirn.distributed import join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import Score, evaluate, frame_mean
from rirn.evaluation.paper import TABLES, Row
from rirn.models import summary
from rirn.training.config import TrainConfig
from rirn.training.photos import photo_data_commands, write_photo_data
from rirn.training.recipes import load_recipe
from rirn.training.results import (
    ALL,
    Line,
    Result,
    Scores,
    append_result,
    exclusively,
    is_trained,
    log_facts,
    machine,
    read_results,
    seconds,
    settings,
    take_turns,
    weights_of,
)
from rirn.training.trainer import train
from rirn.weights import load

FOLDERS = {
    "GOPRO": ("GOPRO_Large", "GOPRO", "gopro"),
    "REDS": ("REDS", "reds"),
    "DVD": ("DVD", "dvd", "DeepVideoDeblurring_Dataset"),
}
"""Possible folder names of the data sets."""

SHAKEN = "shaken"
"""The data set that is generated; it is compared with the paper's numbers for GOPRO."""

MINI_OPTIONS: dict[str, dict[str, object]] = {
    "rdbn": {"blocks": 3},
    "stfan": {"width": 0.25},
}
"""Model settings by base that override a ``mini-`` recipe, where a run would take several times as long as IFI-RNN's."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A row of a table on one data set."""

    row: Row
    dataset: str
    paper: str
    """Data set of the paper's numbers."""
    recipe: str
    config: TrainConfig
    folder: Path
    """The data set, in any layout that :func:`rirn.data.find_sequences` knows."""

    @property
    def test_split(self) -> str:
        """The split to score: REDS has no public truth for its test set."""
        return "val" if self.dataset == "REDS" else "test"

    @property
    def weights(self) -> Path:
        return weights_of(self.config)

    @property
    def command(self) -> str:
        """The command that trains only this row, for example under torchrun."""
        words = ["rirn", "train", "--config", self.recipe, "--model.name", self.row.model]
        for name, value in self.options.items():
            words += [f"--model.{name}", str(value)]
        words += [f"--data.train+={folder}" for folder in self.config.data.train]
        words += ["--data.split", str(self.config.data.split), "--seed", str(self.config.seed)]
        words += [
            f"--{name}={value}"
            for name in ("device", "backend")
            if (value := getattr(self.config, name)) != "auto"
        ]
        return shlex.join([*words, "--out", str(self.config.out)])

    @property
    def options(self) -> dict[str, object]:
        """Model settings that differ from the recipe."""
        return MINI_OPTIONS.get(self.row.base, {}) if self.recipe.startswith("mini-") else {}

    def result(self, results: Iterable[Result]) -> Result | None:
        """Return the newest result that belongs to this row, its seed and its settings."""
        wanted = (self.dataset, self.recipe, self.row.model, self.config.seed, settings(self.config))
        found = [r for r in results if (r.dataset, r.recipe, r.model, r.seed, r.settings) == wanted]
        return found[-1] if found else None


def plan(
    number: int,
    *,
    mini: bool,
    data: Path | None,
    out: Path,
    seeds: int = 1,
    controls: bool = False,
    device: str = "auto",
    backend: str = "auto",
    say: Callable[[str], None] = print,
) -> list[Job]:
    """Return the jobs for a table, row by row on each data set found, all for one seed after the other.

    Args:
        number: number of the table in the paper, 1, 2 or 3.
        mini: use the small recipes, which a CPU can finish.
        data: folder with the data sets, each with its training and test (REDS: validation) sequences. A ``mini`` run
            without one generates a small data set under ``out``.
        out: folder of all runs.
        seeds: trainings per row.
        controls: add rows that the paper does not have, see :class:`~rirn.evaluation.paper.Table`.
        device: as for a training.
        backend: as for a training.
        say: called with a line about each data set that is missing or generated.

    Raises:
        RirnError: none of the data sets is found.
    """
    table = TABLES[number]
    if data is None and not mini:
        raise RirnError(
            "say where the data sets are with --data DIR, or give --mini for a small one made here"
        )
    if seeds < 1:
        raise RirnError(f"a table needs at least one seed; got {seeds}")
    if data is None:
        found = {SHAKEN: ("GOPRO", out / "data" / SHAKEN)}
        say(f"without --data the table is of a small data set that is made in {found[SHAKEN][1]}")
    else:
        found = _datasets(number, data, say)
    jobs = []
    for seed in range(seeds):
        for dataset, (paper, folder) in found.items():
            size = "mini-" if mini else ""
            recipe, runs = f"{size}{paper.lower()}", out / f"{size}{dataset.lower()}"
            for row in table.all_rows(controls):
                config = load_recipe(
                    recipe, model=row.model, train=[folder], val=[], out=runs / row.model / f"seed-{seed}"
                )
                config.data.split = "train"
                config = dataclasses.replace(config, seed=seed, device=device, backend=backend)
                job = Job(row, dataset, paper, recipe, config, folder)
                config.model = dataclasses.replace(config.model, **job.options)
                jobs.append(job)
    return jobs


def _datasets(number: int, data: Path, say: Callable[[str], None]) -> dict[str, tuple[str, Path]]:
    """Return the available data sets of a table by name: the corresponding one of the paper, and the folder."""
    found = {}
    for name in TABLES[number].datasets:
        folder = _find_folder(data, name)
        if folder is None:
            say(f"{name} is left out: {data} has none of the folders {', '.join(FOLDERS[name])}")
        else:
            found[name] = (name, folder)
    if not found:
        raise RirnError(
            f"{data} has none of the data sets of table {number}: {', '.join(TABLES[number].datasets)}"
        )
    return found


def _find_folder(root: Path, dataset: str) -> Path | None:
    return next((root / name for name in FOLDERS[dataset] if (root / name).is_dir()), None)


def run(
    jobs: list[Job], file: Path, *, training: bool = True, say: Callable[[str], None] = print
) -> list[Line]:
    """Train and score what is missing, and return the lines of the table with all existing results.

    An interrupted training is resumed. Several processes may be given the same jobs: each takes those that no other is
    working on.

    Args:
        jobs: from :func:`plan`.
        file: results; existing ones are used and new ones appended, one line of JSON each.
        training: if False, only score what is already trained.
        say: called with a line about each training.

    Raises:
        RirnError: torchrun started this process; the file is not a file of results; or a run was trained with settings other
            than its row's.
    """
    take_turns(
        [job for job in jobs if training or job.weights.exists()],
        done=lambda job: job.result(read_results(file)) is not None,
        lock=lambda job: job.config.out.with_suffix(".lock"),
        work=lambda job: append_result(file, _train_and_score(job, say)),
    )
    results = read_results(file)
    lines: dict[tuple[str, str], Line] = {}
    for job in jobs:
        line = Line(job.row, job.dataset, job.paper, [])
        line = lines.setdefault((job.dataset, job.row.model), line)
        line.results.extend(r for r in [job.result(results)] if r is not None)
    return list(lines.values())


def _train_and_score(job: Job, say: Callable[[str], None]) -> Result:
    if job.dataset == SHAKEN:
        with exclusively(job.folder.with_suffix(".lock"), wait=True):
            write_photo_data(job.folder)
    if not is_trained(job.config):
        say(f"{job.dataset}: training {job.row.model}, seed {job.config.seed}")
        train(job.config)
    with join_world(job.config.device) as world, ops.use_backend(job.config.backend):
        model = load(job.weights, device=world.device)
        scores = list(evaluate(model, find_sequences(job.folder, split=job.test_split), with_ssim=True))
    parts: dict[str, list[Score]] = {}
    if job.dataset == SHAKEN:
        for score in scores:  # test/steady/chelsea
            parts.setdefault(score.sequence.split("/")[1], []).append(score)
    (cost,) = summary([job.row.model], **job.config.model.arguments())
    header, lines = log_facts(job.config)
    return Result(
        dataset=job.dataset,
        recipe=job.recipe,
        model=job.row.model,
        seed=job.config.seed,
        scores={part: _mean_scores(some) for part, some in {**parts, ALL: scores}.items()},
        parameters=cost.parameters,
        gmacs=cost.gmacs,
        seconds=seconds(lines),
        settings=settings(job.config),
        machine=machine(header),
    )


def _mean_scores(scores: list[Score]) -> Scores:
    return Scores(*(frame_mean(scores, field.name) for field in dataclasses.fields(Scores)))


def data_commands(jobs: Iterable[Job]) -> list[str]:
    """Return the commands that generate missing data of some rows, to run before the commands of the rows.

    Raises:
        RirnError: the data cannot be generated here.
    """
    folders = dict.fromkeys(job.folder for job in jobs if job.dataset == SHAKEN)
    return [command for folder in folders for command in photo_data_commands(folder)]
