"""Scored trainings: a file with one line for each, and tables that compare them with the paper's numbers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rirn.errors import RirnError
from rirn.evaluation.paper import TABLES, Row
from rirn.training.config import ModelConfig, OptimConfig, TrainConfig, whole_mixture

ALL = "all"
"""The part that is the whole test set."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Means over all frames of a test set or a part of it, for the blurry frames and a model's output."""

    psnr_in: float
    ssim_in: float
    psnr_out: float
    ssim_out: float


@dataclasses.dataclass(frozen=True)
class Result:
    """A training and its scores."""

    dataset: str
    recipe: str
    model: str
    seed: int
    scores: dict[str, Scores]
    """By part of the test set, :data:`ALL` among them."""
    parameters: int
    gmacs: float
    """For a 1280x720 frame, see :func:`rirn.models.summary`."""
    seconds: float
    """Duration of the training's steps, on the machine."""
    settings: dict[str, Any]
    """The run's :func:`settings`."""
    machine: dict[str, Any]
    """Devices, threads, versions and commit, as in the run's log."""

    @staticmethod
    def from_line(line: str) -> Result:
        fields = json.loads(line)
        fields["settings"] = whole_settings(fields["settings"])
        return Result(**{**fields, "scores": {part: Scores(**s) for part, s in fields["scores"].items()}})

    def to_line(self) -> str:
        return json.dumps(dataclasses.asdict(self)) + "\n"


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of a run that its result depends on: no paths, nothing about the machine."""
    return settings_in_log(config.plain())


def settings_in_log(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the same for the settings in the log of a run.

    Raises:
        KeyError: one is missing.
        TypeError: they are not settings.
    """
    data = {name: plain["data"][name] for name in ("frames", "chunk", "crop", "batch")}
    if any(isinstance(entry, dict) for entry in plain["data"]["train"]):
        mixture = {name: plain["data"][name] for name in ("train", "camera", "pairing", "shutter", "scene")}
        data |= json.loads(json.dumps(mixture))  # pairs become lists, as in a file
    return whole_settings({name: plain[name] for name in ("model", "optim", "precision")} | {"data": data})


def whole_settings(found: dict[str, Any]) -> dict[str, Any]:
    """Settings from a log or a results file; options added since then take their defaults."""
    defaults = {"model": ModelConfig(), "optim": OptimConfig()}
    found = found | {n: dataclasses.asdict(d) | found[n] for n, d in defaults.items() if n in found}
    return found | ({"data": whole_mixture(found["data"])} if "data" in found else {})


class Recorded(Protocol):
    """Something that is stored as a line in a file of results."""

    def to_line(self) -> str: ...


Job, AnyResult = TypeVar("Job"), TypeVar("AnyResult")


def read_results(path: Path, parse: Callable[[str], AnyResult] = Result.from_line) -> list[AnyResult]:
    """Read all lines of a file, oldest first; none if there is no file. A truncated last line is ignored.

    Args:
        parse: converts a line; raises ValueError, TypeError, KeyError or AttributeError if the line is no result.

    Raises:
        RirnError: another line is no result, or the file cannot be read.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise RirnError(f"cannot read the results {path} ({error}); give a file of results") from error
    found = []
    for number, line in enumerate(lines, 1):
        if number == len(lines) and not line.endswith("\n"):
            break
        try:
            found.append(parse(line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RirnError(f"line {number} of {path} is no result of a training: {error}") from error
    return found


def append_result(path: Path, result: Recorded) -> None:
    """Append a line in one write, so that several processes can share the file, after removing a truncated last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusively(path.with_name(f".{path.name}.lock"), wait=True), path.open("ab+") as file:
        text = file.seek(0) or file.read()
        file.truncate(text.rfind(b"\n") + 1)
        file.write(result.to_line().encode())


@contextlib.contextmanager
def exclusively(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file; yields False if another process holds it and ``wait`` is off. It is released if a process dies.

    On a system without POSIX locks, every process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def take_turns(
    jobs: Iterable[Job],
    *,
    done: Callable[[Job], bool],
    lock: Callable[[Job], Path],
    work: Callable[[Job], object],
) -> None:
    """Do the jobs that are not done yet. Several processes may be given the same jobs: each takes those that no other is
    working on, then waits for the rest.

    Args:
        lock: returns the lock file of a job.

    Raises:
        RirnError: torchrun started several processes, which would each train another network in one group.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise RirnError(
            "several trainings do not run under torchrun: start the command several times to share the work, or the commands of "
            "`rirn table --dry-run` under torchrun, and print with --no-train"
        )
    for wait in (False, True):
        for job in jobs:
            if not done(job):
                with exclusively(lock(job), wait=wait) as free:
                    if free and not done(job):
                        work(job)


def weights_of(config: TrainConfig) -> Path:
    """The file that a run writes at its end."""
    return config.out / "weights.safetensors"


def log_facts(config: TrainConfig) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the header of the last start in the log of a trained run, and all lines of the log.

    Raises:
        RirnError: there is no log, or it is damaged.
    """
    log = config.out / "log.jsonl"
    try:
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if "settings" in line][-1], lines
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise RirnError(
            f"{weights_of(config)} has no whole log {log.name} beside it that says how it was trained "
            f"({type(error).__name__}: {error}); remove its folder to train it again, or give another --out"
        ) from error


MACHINE = ("devices", "processes", "threads", "versions", "commit", "cpu_isa")
"""Fields of a log's header that go into a result."""


def machine(header: dict[str, Any]) -> dict[str, Any]:
    return {name: header.get(name) for name in MACHINE}


def seconds(lines: Iterable[dict[str, Any]]) -> float:
    """Total duration of all steps in a log."""
    return round(sum(line["seconds"] for line in lines if "seconds" in line), 1)


def is_trained(config: TrainConfig) -> bool:
    """Tell whether a run is finished: its weights may be those of an earlier run that it lengthens.

    Raises:
        RirnError: the weights are of other settings.
    """
    if not weights_of(config).exists():
        return False
    check_settings(config)
    header, lines = log_facts(config)
    ends = [line["step"] + 1 for line in lines if "wait_share" in line]
    return "steps" not in header or header["steps"] in ends


def progress(config: TrainConfig, *, scored: bool) -> str:
    """The progress of a run: ``scored``, ``trained``, ``begun`` or ``new``."""
    if scored:
        return "scored"
    if weights_of(config).exists():
        return "trained"
    return "begun" if any(config.out.glob("checkpoint-*.pt")) else "new"


def check_settings(config: TrainConfig) -> None:
    """Refuse existing weights that were trained with settings other than those the result would be recorded under.

    Raises:
        RirnError: the settings differ, or are unknown.
    """
    header, _ = log_facts(config)
    weights = weights_of(config)
    try:
        theirs = settings_in_log(header["settings"])
    except (KeyError, TypeError) as error:
        raise RirnError(f"the log of {weights} lacks the setting {error}; give another --out") from error
    ours = settings(config)
    for name in sorted(_flat(ours).keys() | _flat(theirs).keys()):
        mine, other = (_flat(part).get(name) for part in (ours, theirs))
        if mine != other:
            raise RirnError(
                f"{weights} was trained with {name} {other}, where the table has {mine}; "
                "give another --out, or remove that folder to train it again"
            )


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by their command-line names, such as ``optim.lr``."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


@dataclasses.dataclass(frozen=True)
class Line:
    """A row of a table on one data set, with the existing results of its seeds."""

    row: Row
    dataset: str
    paper: str
    """Data set of the paper's numbers."""
    results: list[Result]


HEADINGS = (
    "",
    "seeds",
    "PSNR in",
    "PSNR out",
    "SSIM out",
    "over input",
    "over base",
    "GMACs",
    "paper: PSNR",
    "SSIM",
    "over base",
    "time",
)


def table_text(number: int, lines: Sequence[Line], *, markdown: bool = False) -> str:
    """Format our numbers beside the paper's, one block per data set and part of its test set, for a terminal or a page."""
    blocks = []
    for dataset in dict.fromkeys(line.dataset for line in lines):
        block = [line for line in lines if line.dataset == dataset]
        parts = dict.fromkeys(part for line in block for r in line.results for part in r.scores) or (ALL,)
        for part in sorted(parts, key=lambda name: name == ALL):
            # A test set with parts has each of them and, last, the whole.
            cells = [HEADINGS, *(_cells(line, part, block) for line in block)]
            title = f"{dataset}, {part}; the paper: {block[0].paper}"
            blocks.append(f"{title}\n\n{markdown_table(cells) if markdown else _columns(cells)}")
    head = f"Table {number}: {TABLES[number].title}"
    return "\n\n".join([head, *blocks, _notes(lines)])


def _cells(line: Line, part: str, block: Sequence[Line]) -> list[str]:
    base = next((other for other in block if other.row.model == line.row.base), None)
    ours = _our_cells(line, part, base)
    return [line.row.model, *ours, *_paper_cells(line, base)]


def _our_cells(line: Line, part: str, base: Line | None) -> list[str]:
    scored = {r.seed: r.scores[part] for r in line.results if part in r.scores}
    if not scored:
        return ["-"] * 7
    gains = [s.psnr_out - s.psnr_in for s in scored.values()]
    over_base, cost = "", ""
    if base is not None and base is not line:
        theirs = {r.seed: r.scores[part] for r in base.results if part in r.scores}
        pairs = [(scored[seed], theirs[seed]) for seed in scored if seed in theirs]
        over_base = _spread([mine.psnr_out - other.psnr_out for mine, other in pairs])
        if base.results:
            cost = f"x{line.results[0].gmacs / base.results[0].gmacs:.2f}"
    return [
        str(len(scored)),
        f"{_mean(s.psnr_in for s in scored.values()):.2f}",
        f"{_mean(s.psnr_out for s in scored.values()):.2f}",
        f"{_mean(s.ssim_out for s in scored.values()):.4f}",
        _spread(gains),
        over_base,
        cost,
    ]


def _paper_cells(line: Line, base: Line | None) -> list[str]:
    if line.paper not in line.row.scores:
        return ["-", "-", "", ""]
    psnr, ssim = line.row.scores[line.paper]
    if base is None or base is line:
        return [f"{psnr:.2f}", f"{ssim:.4f}", "", ""]
    over = psnr - base.row.scores[line.paper][0]
    return [f"{psnr:.2f}", f"{ssim:.4f}", f"{over:+.2f}", f"x{line.row.seconds / base.row.seconds:.2f}"]


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _spread(values: Sequence[float]) -> str:
    """Mean and, for two or more values, standard deviation."""
    if not values:
        return ""
    mean = f"{_mean(values):+.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Format rows of cells, the heading first."""
    heading, *others = rows
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *others))


def _columns(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    text = (
        "  ".join(
            [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
        )
        for cells in rows
    )
    return "\n".join(row.rstrip() for row in text)


def _notes(lines: Sequence[Line]) -> str:
    notes = [
        "PSNR in dB and SSIM (Gaussian 11x11, sigma 1.5) of RGB frames rounded to 8 bits, whole frame, mean over frames.",
        "Over input, over base: dB, mean ± standard deviation over the seeds, over the base's run of the same seed.",
        "GMACs: of the networks trained, counted, over the base's; time: of the paper's networks, over the base's.",
    ]
    if any(result.recipe.startswith("mini-") for line in lines for result in line.results):
        notes.append(
            "Ours are small networks after a short training: their PSNR cannot be compared with the paper's."
        )
    return "\n".join(notes)
