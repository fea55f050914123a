"""A few cases of every kind, and that what counts as a finding is found. ``make fuzz`` runs many."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rirn.errors import RirnError
from rirn.measure.memory import peak_bytes
from tests.fuzz import __main__ as driver
from tests.fuzz import kinds
from tests.fuzz.__main__ import SHARES, Process, plan, table
from tests.fuzz.kinds.resumes import Resumes
from tests.fuzz.worker import Outcome, Runner

CASES = {
    "containers": 10,
    "weights": 10,
    "configs": 5,
    "datasets": 6,
    "checkpoints": 4,
    "resumes": 5,
    "photos": 8,
}
SEED = 1000
"""Another one than that of the long run."""


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("kind", CASES)
def test_a_few_cases_end_well_or_in_one_sentence(kind, runner):
    found = [runner.run(kind, SEED, number) for number in range(CASES[kind])]
    assert [outcome for outcome in found if outcome.is_finding] == []
    assert any(outcome.result == "refused" for outcome in found)


@pytest.mark.parametrize("kind", ("containers", "weights", "datasets"))
def test_a_case_is_the_same_again(kind, runner):
    first, again = (runner.run(kind, SEED, 3) for _ in range(2))
    assert (first.result, first.detail) == (again.result, again.detail)


class Misbehaving:
    """Does what a case may do, and what none may."""

    def __init__(self, seeds: Path):
        pass

    def well(self, folder):
        (folder / "out" / "result").write_text("")

    def measure(self, folder):
        peak_bytes(lambda: None, torch.device("cpu"))

    def refuse(self, folder):
        raise RirnError("no.")

    def ramble(self, folder):
        raise RirnError("no.\nno.")

    def traceback(self, folder):
        raise KeyError("x")

    def write(self, folder):
        (folder / "beside").write_text("")

    def climb(self, folder):
        (folder / "out" / ".." / "beside").mkdir()

    def move(self, folder):
        (folder / "out" / "a").write_text("")
        os.rename(folder / "out" / "a", folder / "a")

    def process(self, folder):
        subprocess.run([sys.executable, "--version"], check=True)


DEEDS = {
    "well": "ok",
    "measure": "ok",
    "refuse": "refused",
    "ramble": "unclear",
    "traceback": "traceback",
    "write": "stray",
    "climb": "stray",
    "move": "stray",
    "process": "stray",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_a_case_does_is_seen(deed, runner, monkeypatch):
    class One(Misbehaving):
        def prepare(self, rng, folder):
            return lambda: getattr(self, deed)(folder)

    monkeypatch.setitem(kinds.KINDS, deed, One)
    assert runner.run(deed, 0, 0).result == DEEDS[deed]


DYING_WORKER = """
import json, os, sys, time
for line in sys.stdin:
    kind, seed, number = line.split()
    if number == "1":
        os.abort()
    if number == "2":
        while True:
            pass
    if number == "3":
        os.close(1)
        time.sleep(1.5)
        sys.exit(1)
    print(json.dumps({"kind": kind, "number": int(number), "result": "ok", "detail": ""}), flush=True)
"""


def test_a_crash_and_a_hang_are_seen_and_the_next_case_runs(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\n{DYING_WORKER}")
    program.chmod(0o755)
    monkeypatch.setattr(driver.sys, "executable", str(program))
    monkeypatch.setattr(driver, "FIRST", 20)
    process = Process(tmp_path, limit=0.1)
    try:
        results = [process.run("x", 0, number).result for number in (0, 1, 0, 2, 0, 3, 0)]
    finally:
        process.close()
    assert results == ["ok", "crash", "ok", "hang", "ok", "crash", "ok"]


def test_a_worker_starts_over_in_the_folder_of_one_that_died(tmp_path):
    for _ in range(2):
        assert not Runner(tmp_path).run("resumes", SEED, 0).is_finding


def test_no_part_of_a_run_is_copied_onto_itself(tmp_path):
    for seed in range(40):
        path = tmp_path / str(seed) / "state-000002.pt"
        path.parent.mkdir()
        path.write_bytes(b"x")
        Resumes._misplace(random.Random(seed), path, path.parent)


def test_shares_and_table():
    assert set(SHARES) == set(kinds.KINDS) == set(CASES) and sum(SHARES.values()) == 100
    assert len(plan(10000, [], 0)) == 10000 and plan(1, ["weights"], 7) == [("weights", 7)]
    text = table(
        [Outcome("weights", 0, "ok"), Outcome("weights", 1, "hang"), Outcome("configs", 0, "refused")]
    )
    assert "| weights | 2 | 1 | 0 | 1 hang |" in text and "| all | 3 | 1 | 1 | 1 hang |" in text
