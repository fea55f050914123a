"""bench/results/mini.md, bench/results/claims.md and docs/results.md show what is in the committed files of results."""

import re
from pathlib import Path

from rirn.cli import main
from rirn.evaluation.paper import TABLES
from rirn.training.results import read_results

ROOT = Path(__file__).parents[2]
PAGE, FILE = ROOT / "bench" / "results" / "mini.md", ROOT / "bench" / "results" / "mini.jsonl"
CLAIMS_PAGE, CLAIMS_FILE = (
    ROOT / "bench" / "results" / "claims.md",
    ROOT / "bench" / "results" / "claims.jsonl",
)
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


def test_the_page_of_claims_is_made_of_the_committed_results(tmp_path):
    page = tmp_path / "claims.md"
    page.write_text(CLAIMS_PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    options = ["--results", str(CLAIMS_FILE), "--markdown", str(page), "--plots", str(tmp_path / "plots")]
    assert main(["claims", "--no-train", *options]) == 0
    assert page.read_text(encoding="utf-8") == CLAIMS_PAGE.read_text(encoding="utf-8")


def test_claims_are_judged_by_the_committed_results():
    """Every row of docs/results.md with a verdict is a row of the page of claims."""
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    tables = re.findall(r"^\| claim \|.*\n\|.*\n((?:\|.*\n)+)", text, re.M)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= 10 and set(rows) <= set(CLAIMS_PAGE.read_text(encoding="utf-8").splitlines())


def test_the_committed_results_are_whole():
    results = read_results(FILE)
    keys = [(r.model, r.seed) for r in results]
    assert len(results) > 10 and len(set(keys)) == len(keys)
    assert all(set(r.scores) == {"steady", "abrupt", "all"} and r.machine["commit"] for r in results)
    inputs = {r.scores["all"].psnr_in for r in results}
    assert max(inputs) - min(inputs) < 1e-6  # all were scored on the same frames
