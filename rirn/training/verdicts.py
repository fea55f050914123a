"""What the trainings of :mod:`rirn.training.claims` say about the paper's claims: differences with intervals, and verdicts.

Networks are compared on the same frames and with the same seed, which gives them the same clips. An interval covers 95 % of the
results if sequences are resampled with replacement, and deviations of seeds are drawn from all comparisons of trainings of the
same length: the two or three seeds of one comparison alone do not show how much seeds vary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from rirn.errors import RirnError
from rirn.training.claims import PARTS, TRIALS, Trained
from rirn.training.results import markdown_table

SHARP = 40.0
"""dB: a frame whose blurry version is this close to the truth counts as sharp. Its restoration is not scored."""
BLOCK = 15
"""Number of frames of a real scene that count as a separate sequence if there are fewer scenes than :data:`SCENES`."""
SCENES = 8
DRAWS = 10_000
FREEDOM = 4
"""Minimum number of independent deviations of seeds for a verdict."""
MARGIN = 0.05
"""dB: a smaller gain does not count as help."""
LATE = 4
"""Frames since a sharp one, from which only a long memory still holds it."""

SINCE = (*(f"since {n}" for n in range(1, 8)), "since 8 or more")
"""Parts of ``changing``: frames by their distance from the last sharp one."""
ALL = "all"
"""Instead of a base: all claims."""
INPUT = "input"
"""Instead of the other network: the input."""
PERFECT = 100.0
"""dB: stands for a frame without any error."""

HOLDS, FAILS, OPEN, UNTESTED = (
    "holds",
    "does not hold",
    "not decided at this size",
    "not tested at this size",
)

EVERYWHERE = {part: 1 / len(PARTS) for part in PARTS}
"""Equal weights for the three parts."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """That one network restores blurred frames better than another."""

    name: str
    sentence: str
    network: str
    other: str
    weights: Mapping[str, float] = dataclasses.field(default_factory=lambda: EVERYWHERE)
    """Weights of the parts of the test set in the difference, a weighted sum. ``late`` is the frames of ``changing`` that
    come :data:`LATE` or more after a sharp one."""


LONG_AGO = {"late": 1.0}
CLAIMS = (
    Claim("rirn", "RIRN helps IFI-RNN", "ifi-rnn+rirn", "ifi-rnn"),
    Claim(
        "rirn-control", "RIRN helps IFI-RNN beyond its additional layers", "ifi-rnn+rirn", "ifi-rnn+control"
    ),
    Claim("atb", "ATB helps IFI-RNN", "ifi-rnn+atb", "ifi-rnn"),
    Claim("atb-dtb", "ATB helps it more than DTB", "ifi-rnn+atb", "ifi-rnn+dtb"),
    Claim("irm", "IRM helps IFI-RNN", "ifi-rnn+irm", "ifi-rnn"),
    Claim("both-atb", "IRM and ATB together are better than ATB", "ifi-rnn+rirn", "ifi-rnn+atb"),
    Claim("both-irm", "IRM and ATB together are better than IRM", "ifi-rnn+rirn", "ifi-rnn+irm"),
    Claim(
        "changing",
        "RIRN helps IFI-RNN more where blur changes than where it does not",
        "ifi-rnn+rirn",
        "ifi-rnn",
        {"changing": 1.0, "steady": -1.0},
    ),
    Claim("late", "RIRN helps IFI-RNN long after a sharp frame", "ifi-rnn+rirn", "ifi-rnn", LONG_AGO),
    Claim(
        "late-control",
        "RIRN helps IFI-RNN long after a sharp frame, beyond its additional layers",
        "ifi-rnn+rirn",
        "ifi-rnn+control",
        LONG_AGO,
    ),
    Claim("gru", "RIRN helps GRU", "gru+rirn", "gru"),
    Claim("gru-control", "RIRN helps GRU beyond its additional layers", "gru+rirn", "gru+control"),
    Claim("lstm", "RIRN helps LSTM", "lstm+rirn", "lstm"),
    Claim("lstm-control", "RIRN helps LSTM beyond its additional layers", "lstm+rirn", "lstm+control"),
    Claim("rdbn", "RIRN helps RDBN", "rdbn+rirn", "rdbn"),
    Claim("rdbn-irm", "IRM helps RDBN", "rdbn+irm", "rdbn"),
    Claim("rdbn-gsa", "GSA helps RDBN", "rdbn+gsa", "rdbn"),
    Claim("irm-gsa", "IRM helps RDBN more than GSA", "rdbn+irm", "rdbn+gsa"),
)


def frames_since_sharp(blurry: Iterable[float | None]) -> np.ndarray:
    """Return for each frame how many frames ago the last sharp one was, 0 if it is sharp itself; -1 if there was none.

    Args:
        blurry: PSNR in dB of the input frames, None for a frame without error.
    """
    since, last = [], -1
    for psnr in blurry:
        sharp = psnr is None or psnr >= SHARP
        last = 0 if sharp else last + 1 if last >= 0 else -1
        since.append(last)
    return np.array(since)


@dataclasses.dataclass(frozen=True)
class Difference:
    """How much better one network is than another, dB."""

    mean: float
    low: float
    high: float
    """Upper end of the 95 % interval."""
    seeds: int
    freedom: int
    """Independent deviations of seeds behind the interval."""


def verdict(difference: Difference | None) -> str:
    """Judge the claim that a difference is above zero."""
    if difference is None:
        return UNTESTED
    if difference.freedom < FREEDOM:
        return OPEN
    if difference.low > 0:
        return HOLDS
    return FAILS if difference.high < MARGIN else OPEN


class Evidence:
    """Trainings that can be compared: the newest of each network and seed.

    Raises:
        RirnError: two of them were scored on different frames.
    """

    def __init__(self, trained: Iterable[Trained]):
        self.runs = {(run.network, run.seed): run for run in trained}
        self._known: dict[tuple[str, str, str], dict[str, list[float]]] = {}
        first: Trained | None = None
        for run in self.runs.values():
            first = first or run
            if not _same_inputs(run, first):
                raise RirnError(
                    f"{run.network} of seed {run.seed} was scored on other frames than {first.network} of seed {first.seed}; "
                    "score both on the same"
                )

    def networks(self, base: str) -> list[str]:
        """Return the trained networks on a base, the base first, without trials."""
        trials = {trial.label for trial in TRIALS}
        names = dict.fromkeys(
            network for network, _ in self.runs if network.partition("+")[0] == base and network not in trials
        )
        return sorted(names, key=lambda name: name != base)

    def seeds(self, *networks: str) -> list[int]:
        """Return the seeds that all of the networks were trained with."""
        sets = [
            {seed for name, seed in self.runs if name == network} for network in networks if network != INPUT
        ]
        return sorted(set.intersection(*sets))

    def steps(self, network: str) -> int:
        return self.runs[network, self.seeds(network)[0]].steps

    def differences(self, claim: Claim) -> dict[str, dict[str, list[float]]]:
        """Return by part and sequence the mean difference over blurred frames, one number per seed."""
        return {part: self._of_part(claim.network, claim.other, part) for part in claim.weights}

    def _of_part(self, network: str, other: str, part: str) -> dict[str, list[float]]:
        if (network, other, part) not in self._known:
            units: dict[str, list[float]] = {}
            for seed in self.seeds(network, other):
                mine, theirs = self.runs[network, seed], self.runs.get((other, seed))
                for name, blurry, ours, others in _units(mine, theirs or mine, part):
                    of_seeds = units.setdefault(name, [])
                    of_seeds.append(float(np.mean(ours - (blurry if theirs is None else others))))
            self._known[network, other, part] = units
        return self._known[network, other, part]

    def difference(self, claim: Claim) -> Difference | None:
        """Return the difference that a claim is about; None if no seed was used for both networks."""
        seeds, parts = self.seeds(claim.network, claim.other), self.differences(claim)
        if not seeds or not all(parts.values()):
            return None
        deviations, freedom = self._deviations(claim)
        rng = np.random.default_rng(0)
        total, mean = np.zeros(DRAWS), 0.0
        drawn: dict[tuple[str, ...], np.ndarray] = {}
        for part, units in parts.items():
            values = np.array([np.mean(of_seeds) for of_seeds in units.values()])
            # The same crops and movements with different exposures are drawn together.
            if tuple(units) not in drawn:
                drawn[tuple(units)] = rng.integers(len(values), size=(DRAWS, len(values)))
            total += claim.weights[part] * values[drawn[tuple(units)]].mean(1)
            mean += claim.weights[part] * float(values.mean())
        if len(deviations):
            total += rng.choice(deviations, (DRAWS, len(seeds))).mean(1)
        low, high = np.quantile(total, (0.025, 0.975))
        return Difference(mean, float(low), float(high), len(seeds), freedom)

    def _deviations(self, claim: Claim) -> tuple[np.ndarray, int]:
        """Return deviations of seeds from their comparisons' means, rescaled as for many seeds, and the degrees of freedom."""
        pool, compared = [np.zeros(0)], []
        for network, other in dict.fromkeys(
            [(claim.network, claim.other), *((c.network, c.other) for c in CLAIMS)]
        ):
            seeds = self.seeds(network, other)
            count = len(seeds)
            if count < 2 or self.steps(network) != self.steps(claim.network):
                continue
            parts = self.differences(dataclasses.replace(claim, network=network, other=other))
            if not all(parts.values()):
                continue
            of_seeds = sum(
                claim.weights[part] * np.mean([*units.values()], 0) for part, units in parts.items()
            )
            pool.append((of_seeds - np.mean(of_seeds)) * np.sqrt(count / (count - 1)))
            compared.append((network, other, seeds))
        return np.concatenate(pool), _rank(compared)

    def curves(self, base: str) -> dict[str, tuple[list[float], np.ndarray]]:
        """Return for each network on a base the steps, and its gain over the input, dB, mean over clips: [seeds, steps]."""
        found = {}
        for network in self.networks(base):
            curves = [self.runs[network, seed].curve for seed in self.seeds(network)]
            gains = [
                np.nanmean(np.array([c[name] for name in c if name != "step"], float), 0) for c in curves
            ]
            found[network] = curves[0]["step"], np.array(gains)
        return found

    def since(self, base: str) -> dict[str, np.ndarray]:
        """Return for each addition to a base its mean gain and interval, dB, by frames since a sharp one: [SINCE, 3]."""
        found = {}
        for network in self.networks(base)[1:]:
            rows = [self.difference(Claim("", "", network, base, {part: 1.0})) for part in SINCE]
            found[network] = np.array([(np.nan,) * 3 if d is None else (d.mean, d.low, d.high) for d in rows])
        return found


def _rank(compared: Sequence[tuple[str, str, list[int]]]) -> int:
    """Return how many deviations of seeds are independent: comparisons share networks."""
    runs = {(name, seed): i for i, (name, seed) in enumerate(_runs(compared))}
    rows = [np.zeros((0, len(runs)))]
    for *pair, seeds in compared:
        block = np.zeros((len(seeds), len(runs)))
        for name, sign in zip(pair, (1, -1), strict=True):
            if name != INPUT:
                columns = [runs[name, seed] for seed in seeds]
                block[:, columns] += sign * (np.eye(len(seeds)) - 1 / len(seeds))
        rows.append(block)
    return int(np.linalg.matrix_rank(np.concatenate(rows)))


def _runs(compared: Sequence[tuple[str, str, list[int]]]) -> set[tuple[str, int]]:
    return {(name, seed) for *pair, seeds in compared for name in pair for seed in seeds}


def page(evidence: Evidence, plots: Mapping[str, str] | None = None) -> str:
    """Return the verdicts, and the tables behind them, as Markdown.

    Args:
        plots: links to plots by base; the one of all claims under :data:`ALL`.
    """
    rows = [("claim", "difference, dB", "seeds", "verdict")]
    for claim in CLAIMS:
        found = evidence.difference(claim)
        rows.append((claim.sentence, _interval(found), str(found.seeds) if found else "", verdict(found)))
    blocks = [markdown_table(rows)]
    if plots and ALL in plots:
        blocks.append(f"![The difference behind each claim, with its interval]({plots[ALL]})")
    for base in dict.fromkeys(network.partition("+")[0] for network, _ in evidence.runs):
        blocks += [f"### {base}", _parts_table(evidence, base)]
        since = evidence.since(base)
        if since:
            head = ["over the base, dB", *SINCE]
            cells = [
                [name, *("" if np.isnan(mean) else f"{mean:+.2f}" for mean in values[:, 0])]
                for name, values in since.items()
            ]
            blocks.append(markdown_table([head, *cells]))
        if plots and base in plots:
            blocks.append(
                f"![Learning curves, and gain over {base} by frames since a sharp one]({plots[base]})"
            )
    blocks += _trials_table(evidence)
    return "\n\n".join([*blocks, NOTES])


NOTES = f"""PSNR in dB of blurred frames, mean over sequences; in brackets 95 % of what comes out when sequences and seeds are
drawn anew. `since n`: frames of `changing` that come n after the last sharp one. A claim holds if its interval lies above 0,
and does not hold if it lies below {MARGIN}."""


def _trials_table(evidence: Evidence) -> list[str]:
    """Return a table of each trial's gain over the unchanged network, its base, and the base with only the added layers."""
    others = ("as it is", "over the base", "over the control")
    rows = [["trial", "seeds", *others]]
    for trial in TRIALS:
        base = trial.network.partition("+")[0]
        if seeds := evidence.seeds(trial.label):
            compared = (trial.network, base, f"{base}+control")
            found = [evidence.difference(Claim("", "", trial.label, other)) for other in compared]
            rows.append([trial.label, str(len(seeds)), *map(_interval, found)])
    return ["### Trials", markdown_table(rows)] if len(rows) > 1 else []


def _parts_table(evidence: Evidence, base: str) -> str:
    rows = [
        ["network", "seeds", "steps", *(f"{part}{over}" for over in ("", ", over base") for part in PARTS)]
    ]
    for network in evidence.networks(base):
        found = [
            evidence.difference(Claim("", "", network, other, {part: 1.0}))
            for other in (INPUT, base)
            for part in PARTS
        ]
        gains = [f"{d.mean:+.2f}" if d else "" for d in found[:3]]
        over = [_interval(d) if network != base else "" for d in found[3:]]
        seeds = len(evidence.seeds(network))
        rows.append([network, str(seeds), f"{evidence.steps(network):,}", *gains, *over])
    return markdown_table(rows)


def _interval(difference: Difference | None) -> str:
    if difference is None:
        return ""
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


def _same_inputs(run: Trained, other: Trained) -> bool:
    ours, theirs = (
        {(part, name): s.blurry for part, sequences in r.scores.items() for name, s in sequences.items()}
        for r in (run, other)
    )
    return ours.keys() == theirs.keys() and all(
        len(ours[key]) == len(theirs[key])
        # Another machine may round a pixel differently.
        and np.allclose(_decibels(ours[key]), _decibels(theirs[key]), rtol=0, atol=0.05)
        for key in ours
    )


def _decibels(values: Sequence[float | None]) -> np.ndarray:
    return np.array([PERFECT if value is None else value for value in values], float)


def _units(
    mine: Trained, theirs: Trained, part: str
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield each sequence with blurred frames in a part: its name and their PSNR, of the input and as restored by either."""
    sequences = mine.scores[part if part in PARTS else "changing"]
    for name, frames in sequences.items():
        others = theirs.scores[part if part in PARTS else "changing"][name]
        chosen = _chosen(part, frames_since_sharp(frames.blurry))
        columns = [_decibels(values) for values in (frames.blurry, frames.restored, others.restored)]
        block = BLOCK if part == "real" and len(sequences) < SCENES else len(chosen)
        for start in range(0, len(chosen), block):
            here = np.flatnonzero(chosen[start : start + block]) + start
            if len(here):
                yield f"{name}/{start}", *(column[here] for column in columns)


def _chosen(part: str, since: np.ndarray) -> np.ndarray:
    if part == "late":
        return since >= LATE
    if part in SINCE:
        number = SINCE.index(part) + 1
        return since >= number if number == len(SINCE) else since == number
    return since != 0
