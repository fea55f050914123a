"""bench/results/mini.md and docs/results.md show what is in the committed file of results."""

import re
from pathlib import Path

from rirn.cli import main
from rirn.evaluation.paper import TABLES
from rirn.training.results import read_results

ROOT = Path(__file__).parents[2]
PAGE, FILE = ROOT / "bench" / "results" / "mini.md", ROOT / "bench" / "results" / "mini.jsonl"
SEEDS = {1: 2, 2: 3, 3: 2}
"""How many the tables have."""


def test_the_page_is_made_of_the_committed_results(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    assert set(SEEDS) == set(TABLES)
    for number, seeds in SEEDS.items():
        options = [
            "--seeds",
            str(seeds),
            "--out",
            str(tmp_path / "runs"),
            "--results",
            str(FILE),
            "--no-train",
        ]
        assert main(["table", str(number), "--mini", "--controls", *options, "--markdown", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


def test_the_claims_are_judged_by_the_committed_results():
    """Every row of docs/results.md that names seeds is a row of the tables."""
    gains = {}  # of a model with so many seeds over its base, by the kind of blur; under "the paper" the paper's
    for blur, table in re.findall(
        r"^shaken, (\w+);.*?\n\n((?:\|.*\n)+)", PAGE.read_text(encoding="utf-8"), re.M
    ):
        for cells in (line.strip("|").split(" | ") for line in table.splitlines()[2:]):
            model, seeds, over_base, paper = (cells[i].strip() for i in (0, 1, 6, 10))
            row = gains.setdefault((model, seeds), {"the paper": ""})
            row |= {blur: over_base} | ({"the paper": paper} if paper not in ("", "-") else {})
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| network \| seeds \|(.*)\|\n\|.*\n((?:\|.*\n)+)", text, re.M)
    assert len(tables) == 4
    for head, rows in tables:
        names = [name.strip().removesuffix(" blur").removesuffix(" clips") for name in head.split("|")]
        for row in rows.splitlines():
            model, seeds, *values = (cell.strip() for cell in row.strip("|").split("|"))
            assert dict(zip(names, values, strict=True)).items() <= gains[model, seeds].items(), row


def test_the_committed_results_are_whole():
    results = read_results(FILE)
    keys = [(r.model, r.seed) for r in results]
    assert len(results) > 10 and len(set(keys)) == len(keys)
    assert all(set(r.scores) == {"steady", "abrupt", "all"} and r.machine["commit"] for r in results)
    inputs = {r.scores["all"].psnr_in for r in results}
    assert max(inputs) - min(inputs) < 1e-6  # all were scored on the same frames
