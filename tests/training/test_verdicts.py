"""What made-up trainings say about the claims, where the answer is known."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from rirn import RirnError
from rirn.cli import main
from rirn.training import verdicts
from rirn.training.claims import PARTS, STUDIES, FrameScores, Trained, plan
from rirn.training.results import append_result, settings
from rirn.training.verdicts import (
    CLAIMS,
    FAILS,
    HOLDS,
    INPUT,
    OPEN,
    UNTESTED,
    Claim,
    Difference,
    Evidence,
    frames_since_sharp,
    page,
    verdict,
)

SEQUENCES = 12
BLURRY = {
    "real": {f"scene-{i}": (25.0,) * 20 for i in range(SEQUENCES)},
    "steady": {f"clip-{i}": (24.0,) * 20 for i in range(SEQUENCES)},
    "changing": {f"clip-{i}": (23.0, None, *(22.0,) * 8, None, *(22.0,) * 9) for i in range(SEQUENCES)},
}


def run(network, seed, gain, steps=10, blurry=BLURRY):
    """A training whose gain over the input depends on the part, the number of the sequence, and frames since a sharp one."""
    scores = {
        part: {
            name: FrameScores(
                values,
                tuple(
                    50.0 if v is None else v + gain(part, number, since)
                    for v, since in zip(values, frames_since_sharp(values), strict=True)
                ),
            )
            for number, (name, values) in enumerate(sequences.items())
        }
        for part, sequences in blurry.items()
    }
    curve = {"step": [5, steps], "one": [0.5, 1.0], "other": [None, 2.0]}
    return Trained(network, seed, scores, curve, 1.0, {"model": {}, "optim": {"steps": steps}}, {})


def always(value):
    return lambda part, number, since: value


def sextet(**gains):
    """Three seeds each, with a gain by addition that no seed and no sequence changes."""
    return [
        run("ifi-rnn" + ("+" + name if name != "base" else ""), seed, always(gain))
        for seed in range(3)
        for name, gain in gains.items()
    ]


def claim(name):
    return next(c for c in CLAIMS if c.name == name)


def test_frames_since_sharp():
    assert frames_since_sharp([30, 41, 30, 30, None, 39.9, 40]).tolist() == [-1, 0, 1, 2, 0, 1, 0]
    assert frames_since_sharp([20.0, 21.0]).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("low", "high", "freedom", "expected"),
    [
        (0.001, 0.002, 4, HOLDS),
        (0.0, 0.2, 4, OPEN),
        (-0.1, 0.05, 4, OPEN),
        (-0.1, 0.049, 4, FAILS),
        (-0.3, -0.1, 4, FAILS),
        (0.1, 0.2, 3, OPEN),
        (-0.3, -0.1, 3, OPEN),
    ],
)
def test_edges_of_verdicts(low, high, freedom, expected):
    assert verdict(Difference((low + high) / 2, low, high, 3, freedom)) == expected


def test_nothing_is_untested_and_not_a_failure():
    assert verdict(None) == UNTESTED
    assert Evidence([]).difference(claim("atb")) is None
    assert page(Evidence([])).count(UNTESTED) == len(CLAIMS)
    only = Evidence([run("ifi-rnn", 0, always(1)), run("ifi-rnn+atb", 1, always(1))])  # no seed in common
    assert only.difference(claim("atb")) is None


def test_a_constant_difference_is_found_exactly():
    evidence = Evidence(sextet(base=1.0, atb=1.3, dtb=1.3, irm=0.9))
    found = evidence.difference(claim("atb"))
    assert (found.mean, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3), abs=1e-9)
    assert (
        found.seeds == 3 and found.freedom == 6 and verdict(found) == HOLDS
    )  # three comparisons of three seeds
    assert verdict(evidence.difference(claim("atb-dtb"))) == FAILS
    assert verdict(evidence.difference(claim("irm"))) == FAILS
    assert verdict(evidence.difference(claim("rirn"))) == UNTESTED
    over_input = evidence.difference(Claim("", "", "ifi-rnn+atb", INPUT))
    assert over_input.mean == pytest.approx(1.3)


def test_sharp_frames_do_not_count():
    lines = sextet(base=1.0, atb=1.0)
    spoilt = []
    for line in lines:
        changing = {
            name: FrameScores(
                s.blurry, tuple(30.0 if b is None else r for b, r in zip(s.blurry, s.restored, strict=True))
            )
            for name, s in line.scores["changing"].items()
        }
        spoilt.append(
            dataclasses.replace(line, scores=line.scores | {"changing": changing})
            if line.network != "ifi-rnn"
            else line
        )
    assert Evidence(spoilt).difference(claim("atb")).mean == pytest.approx(0)


def test_parts_weigh_as_the_claim_says():
    def helps(part, number, since):
        return {"real": 0.1, "steady": 0.2, "changing": 0.6 if since >= verdicts.LATE else 0.3}[part]

    lines = [line for s in range(3) for line in (run("ifi-rnn", s, always(0)), run("ifi-rnn+rirn", s, helps))]
    evidence = Evidence(lines)
    # One frame before any sharp one; of 17 after one 3 + 3 early and 5 + 6 late.
    changing = (7 * 0.3 + 11 * 0.6) / 18
    assert evidence.difference(claim("rirn")).mean == pytest.approx((0.1 + 0.2 + changing) / 3)
    assert evidence.difference(claim("changing")).mean == pytest.approx(changing - 0.2)
    assert evidence.difference(claim("late")).mean == pytest.approx(0.6)
    rows = evidence.since("ifi-rnn")["ifi-rnn+rirn"]
    assert rows[:, 0] == pytest.approx([0.3] * 3 + [0.6] * 5)


def spread(seed_sd, sequence_sd, seeds=3, networks=40):
    """Differences of many comparisons, and their intervals, where seeds and sequences deviate so much."""
    rng = np.random.default_rng(0)
    lines, names = [], [f"ifi-rnn+n{i}" for i in range(networks)]
    of_sequence = {name: rng.normal(0, sequence_sd, SEQUENCES) for name in names}
    for seed in range(seeds):
        lines.append(run("ifi-rnn", seed, always(0), blurry={"steady": BLURRY["steady"]}))
        for name in names:
            shift = rng.normal(0, seed_sd)

            def gain(part, number, since, shift=shift, name=name):
                return shift + of_sequence[name][number]

            lines.append(run(name, seed, gain, blurry={"steady": BLURRY["steady"]}))
    return lines, [Claim(name, name, name, "ifi-rnn", {"steady": 1.0}) for name in names]


@pytest.mark.parametrize(("seed_sd", "sequence_sd"), [(0.1, 0), (0, 0.1), (0.1, 0.2)])
def test_intervals_are_as_wide_as_theory_has_them(monkeypatch, seed_sd, sequence_sd):
    lines, claims = spread(seed_sd, sequence_sd)
    monkeypatch.setattr(verdicts, "CLAIMS", claims)
    evidence = Evidence(lines)
    found = [evidence.difference(c) for c in claims]
    expected = 2 * 1.96 * math.sqrt(seed_sd**2 / 3 + sequence_sd**2 / SEQUENCES)
    assert np.mean([f.high - f.low for f in found]) == pytest.approx(expected, rel=0.1)
    assert sum(f.low < 0 < f.high for f in found) / len(found) > 0.85
    assert {f.freedom for f in found} == {2 * len(claims)}


def test_exposures_of_one_movement_are_drawn_together():
    def helps(part, number, since):
        return number / 10 + (part == "changing") / 5

    lines = [line for s in range(3) for line in (run("ifi-rnn", s, always(0)), run("ifi-rnn+rirn", s, helps))]
    found = Evidence(lines).difference(claim("changing"))
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2), abs=1e-9)


def test_few_seeds_decide_nothing(monkeypatch):
    monkeypatch.setattr(verdicts, "CLAIMS", [claim("atb")])
    evidence = Evidence([line for line in sextet(base=1.0, atb=2.0)])
    assert evidence.difference(claim("atb")).freedom == 2
    assert verdict(evidence.difference(claim("atb"))) == OPEN


def test_comparisons_that_follow_from_others_do_not_count():
    """Two seeds of four networks hold three independent deviations, whatever the number of claims about them."""
    evidence = Evidence([r for r in sextet(base=1.0, atb=1.3, irm=1.0, rirn=1.3) if r.seed < 2])
    found = evidence.difference(claim("atb"))
    assert found.seeds == 2 and found.freedom == 3 and verdict(found) == OPEN


def test_seeds_of_other_lengths_are_not_looked_at():
    lines = sextet(base=1.0, atb=1.3, irm=1.1)
    shorter = [run(name, seed, always(seed), steps=5) for seed in range(2) for name in ("gru", "gru+rirn")]
    found = Evidence([*lines, *shorter]).difference(claim("atb"))
    assert found == Evidence(lines).difference(claim("atb"))
    assert Evidence([*lines, *shorter]).difference(claim("gru")).freedom == 1


def test_a_scene_alone_counts_by_its_blocks():
    blurry = {"real": {"scene": tuple(20.0 + i / 10 for i in range(40))}}
    lines = [run(n, s, always(0), blurry=blurry) for n in ("gru", "gru+rirn") for s in range(2)]
    found = Evidence(lines).differences(Claim("", "", "gru+rirn", "gru", {"real": 1.0}))
    assert {name: len(of_seeds) for name, of_seeds in found["real"].items()} == {
        "scene/0": 2,
        "scene/15": 2,
        "scene/30": 2,
    }


def test_scores_of_other_frames_are_refused():
    other = BLURRY | {"steady": {name: (23.0, *values[1:]) for name, values in BLURRY["steady"].items()}}
    rounded = BLURRY | {"steady": {name: (24.01, *values[1:]) for name, values in BLURRY["steady"].items()}}
    Evidence([run("gru", 0, always(0)), run("lstm", 1, always(0), blurry=rounded)])
    with pytest.raises(RirnError, match="lstm of seed 1 was scored on other frames than gru of seed 0"):
        Evidence([run("gru", 0, always(0)), run("lstm", 1, always(0), blurry=other)])


def test_the_newest_of_a_kind_counts():
    lines = sextet(base=1.0, atb=1.3)
    newer = [run("ifi-rnn+atb", seed, always(1.1)) for seed in range(3)]
    assert Evidence([*lines, *newer]).difference(claim("atb")).mean == pytest.approx(0.1)


def test_page_and_plots(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "results.jsonl"
    planned = {(r.network, r.config.seed): settings(r.config) for r in plan(Path(), Path(), trials=True)}
    for line in [
        *sextet(base=1.0, control=1.0, atb=1.3, dtb=1.0, irm=1.0, rirn=1.4),
        run("gru", 0, always(0.5)),
        run("ifi-rnn+rirn, max_weight 2", 0, always(1.5)),
    ]:
        append_result(file, dataclasses.replace(line, settings=planned[line.network, line.seed]))
    append_result(file, run("ifi-rnn+rirn", 0, always(9.0)))  # of other settings
    markdown, plots = tmp_path / "page.md", tmp_path / "plots"
    options = [
        "claims",
        "--no-train",
        "--results",
        str(file),
        "--markdown",
        str(markdown),
        "--plots",
        str(plots),
    ]
    assert main(options) == 0 and "left out: 1 result(s) of other settings" in capsys.readouterr().err
    text = markdown.read_text(encoding="utf-8")
    assert "| RIRN helps IFI-RNN | +0.400 [+0.400, +0.400] | 3 | holds |" in text
    assert "| IRM helps IFI-RNN | +0.000 [+0.000, +0.000] | 3 | does not hold |" in text
    assert "| ifi-rnn+rirn, max_weight 2 | 1 | +0.100 [+0.100, +0.100] | +0.500 [+0.500, +0.500] |" in text
    assert text.count("max_weight 2") == 1
    assert "| RIRN helps GRU |  |  | not tested at this size |" in text
    assert "| gru | 1 | 3,000 | +0.50 | +0.50 | +0.50 |" in text
    for name in ("claims", "claims-ifi-rnn", "claims-gru"):
        assert f"](plots/{name}.png)" in text and (plots / f"{name}.png").stat().st_size > 5000
    assert main(options) == 0 and markdown.read_text(encoding="utf-8") == text


def test_claims_are_told_apart_and_name_what_is_there():
    assert len({c.name for c in CLAIMS}) == len({c.sentence for c in CLAIMS}) == len(CLAIMS)
    trained = {name for study in STUDIES for name in study.networks}
    assert {name for c in CLAIMS for name in (c.network, c.other)} <= trained
    assert all(set(c.weights) <= {*PARTS, "late", *verdicts.SINCE} for c in CLAIMS)
