"""The paper's tables over again: train each row, score it, and print it beside the paper's figures."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

from rirn import ops
from rirn.data.sequences import find_sequences
from rirn.distributed import join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import evaluate, frame_mean
from rirn.training.config import TrainConfig
from rirn.training.paper import TABLES, Row
from rirn.training.recipes import load_recipe
from rirn.training.toy import write_toy_data
from rirn.training.trainer import train
from rirn.weights import load

FOLDERS = {
    "GOPRO": ("GOPRO_Large", "GOPRO", "gopro"),
    "REDS": ("REDS", "reds"),
    "DVD": ("DVD", "dvd", "DeepVideoDeblurring_Dataset"),
}
"""Names that the folders of the data sets go by."""

TOY = "toy"
"""The data set that is made on the spot; it stands beside the paper's figures for GOPRO."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A row of a table on one data set."""

    row: Row
    dataset: str
    paper: str
    """Data set of the paper's figures."""
    recipe: str
    config: TrainConfig
    folder: Path
    """The data set, in any layout that :func:`rirn.data.find_sequences` knows."""

    @property
    def test_split(self) -> str:
        """Split that is scored: REDS has no public truth for its test set."""
        return "val" if self.dataset == "REDS" else "test"

    @property
    def weights(self) -> Path:
        return self.config.out / "weights.safetensors"

    @property
    def command(self) -> str:
        """What trains this row alone, for example under torchrun."""
        words = ["rirn", "train", "--config", self.recipe, "--model.name", self.row.model]
        words += [f"--data.train+={folder}" for folder in self.config.data.train]
        words += ["--data.split", str(self.config.data.split)]
        return shlex.join([*words, "--out", str(self.config.out)])


@dataclasses.dataclass(frozen=True)
class Scores:
    """Means over all frames of a test set: of its blurry frames, and of a model's output."""

    psnr_in: float
    ssim_in: float
    psnr_out: float
    ssim_out: float


def plan(
    number: int,
    *,
    mini: bool,
    data: Path | None,
    out: Path,
    device: str = "auto",
    backend: str = "auto",
    say: Callable[[str], None] = print,
) -> list[Job]:
    """What a table needs, row by row on each data set that is there.

    Args:
        number: 1, 2 or 3, of the table in the paper.
        mini: take the small recipes, which a CPU can finish.
        data: folder with the data sets, each with its training and its test (REDS: validation) sequences in it. A ``mini``
            run without one makes a small data set under ``out``.
        out: folder of all runs.
        device: as for a training.
        backend: as for a training.
        say: gets a line about each data set that is not there, or is made.

    Raises:
        RirnError: none of the data sets is there.
    """
    table = TABLES[number]
    jobs = []
    if data is None and not mini:
        raise RirnError(
            "say where the data sets are with --data DIR, or give --mini for a small one made here"
        )
    found: dict[str, tuple[str, Path]] = {}
    if data is None:
        found[TOY] = ("GOPRO", out / "data" / TOY)
        say(f"without --data the table is of a small data set that is made in {found[TOY][1]}")
    else:
        for name in table.datasets:
            folder = _find_folder(data, name)
            if folder is None:
                say(f"{name} is left out: {data} has none of the folders {', '.join(FOLDERS[name])}")
            else:
                found[name] = (name, folder)
    if not found:
        raise RirnError(f"{data} has none of the data sets of table {number}: {', '.join(table.datasets)}")
    for dataset, (paper, folder) in found.items():
        size = "mini-" if mini else ""
        recipe, runs = f"{size}{paper.lower()}", out / f"{size}{dataset.lower()}"
        for row in table.rows:
            config = load_recipe(recipe, model=row.model, train=[folder], val=[], out=runs / row.model)
            config.data.split = "train"
            config = dataclasses.replace(config, device=device, backend=backend)
            jobs.append(Job(row, dataset, paper, recipe, config, folder))
    return jobs


def _find_folder(root: Path, dataset: str) -> Path | None:
    return next((root / name for name in FOLDERS[dataset] if (root / name).is_dir()), None)


def run(jobs: list[Job], *, training: bool = True, say: Callable[[str], None] = print) -> list[Scores | None]:
    """Train what is not trained yet and score what is not scored yet; None for a row without weights.

    A training that was cut off is gone on with. Scores stay in ``scores.json`` beside the weights they are of.

    Raises:
        RirnError: a launcher started several processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RirnError(
            "rirn table runs in one process; start the commands of --dry-run under torchrun, then --no-train prints"
        )
    results = []
    for job in jobs:
        if job.dataset == TOY:
            write_toy_data(job.folder)
        if training and not job.weights.exists():
            say(f"{job.dataset}: training {job.row.model}")
            train(job.config)
        results.append(_scores(job) if job.weights.exists() else None)
    return results


def _scores(job: Job) -> Scores:
    file = job.config.out / "scores.json"
    if file.exists() and file.stat().st_mtime_ns >= job.weights.stat().st_mtime_ns:
        return Scores(**json.loads(file.read_text(encoding="utf-8")))
    with join_world(job.config.device) as world, ops.use_backend(job.config.backend):
        model = load(job.weights, device=world.device)
        parts = list(evaluate(model, find_sequences(job.folder, split=job.test_split), with_ssim=True))
    fields = [field.name for field in dataclasses.fields(Scores)]
    scores = Scores(*(frame_mean(parts, field) for field in fields))
    file.write_text(json.dumps(dataclasses.asdict(scores), indent=1) + "\n", encoding="utf-8")
    return scores


def status(job: Job) -> str:
    """What there is of a row: ``done``, ``begun`` or ``new``."""
    if job.weights.exists():
        return "done"
    return "begun" if any(job.config.out.glob("checkpoint-*.pt")) else "new"


def format_table(number: int, jobs: list[Job], results: list[Scores | None]) -> str:
    """Our figures beside the paper's, a block per data set, with the blurry input's own row on top."""
    lines = [f"Table {number}: {TABLES[number].title}"]
    for dataset in dict.fromkeys(job.dataset for job in jobs):
        block = [(j, r) for j, r in zip(jobs, results, strict=True) if j.dataset == dataset]
        paper = block[0][0].paper
        lines += ["", f"{dataset:14s} {'ours':>22s}    {'the paper, ' + paper:>22s}"]
        lines.append(f"{'':14s}    PSNR    SSIM    gain       PSNR    SSIM    gain   time")
        scored = next((r for _, r in block if r is not None), None)
        if scored is not None:
            lines.append(f"{'blurry input':14s} {_figures(scored.psnr_in, scored.ssim_in, None)}")
        base: tuple[Row, Scores | None] | None = None
        for job, result in block:
            if base is None or "+" not in job.row.model:
                base = (job.row, result)
            lines.append(_line(job, result, *base))
    lines += [
        "",
        "PSNR in dB and SSIM (Gaussian 11x11, sigma 1.5) of RGB frames rounded to 8 bits, whole frame, mean over frames.",
        "gain: dB over the row without addition; time: of the paper's network per frame, over that row's.",
    ]
    if any(job.recipe.startswith("mini-") for job in jobs):
        lines.append(
            "Ours are small networks after a short training: they cannot be compared with the paper's."
        )
    return "\n".join(lines)


def _line(job: Job, result: Scores | None, base: Row, base_result: Scores | None) -> str:
    ours = f"{'-':>7s} {'-':>7s} {'':7s}"
    first = job.row is base
    if result is not None:
        gain = None if first or base_result is None else result.psnr_out - base_result.psnr_out
        ours = _figures(result.psnr_out, result.ssim_out, gain)
    psnr, ssim = job.row.scores[job.paper]
    theirs = _figures(psnr, ssim, None if first else psnr - base.scores[job.paper][0])
    time = "" if first else f"{job.row.seconds / base.seconds:6.2f}"
    return f"{job.row.model:14s} {ours}    {theirs} {time}".rstrip()


def _figures(psnr: float, ssim: float, gain: float | None) -> str:
    return f"{psnr:7.2f} {ssim:7.4f} {'' if gain is None else f'{gain:+.2f}':>7s}"
