"""The commands of docs/data.md and docs/evaluation.md, run on small stand-ins for the data."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from rirn.cli import main
from rirn.data import write_png
from tests.data.layouts import gopro
from tests.video.clips import write_clip

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = [
    block
    for name in ("data.md", "evaluation.md")
    for block in re.findall(r"^```(\w*)\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
]
COMMANDS = [line for language, text in BLOCKS if not language for line in text.splitlines()]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gopro(Path("GOPRO_Large"), ["train/GOPR0372_07_00", "test/GOPR0384_11_00"], frames=6, size=(16, 12))
    write_clip(Path("ride240fps.mp4"), frames=14)
    write_clip(Path("holiday.mp4"), frames=4)
    Path("photos").mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (400, 700, 3), dtype=np.uint8)
    write_png(Path("photos/one.png"), photo)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda line: " ".join(line.split()[:4]))
def test_commands_run(stand_ins, command):
    pytest.importorskip("skimage")
    words = shlex.split(command.partition("-m rirn")[2] or command.removeprefix("rirn"))
    assert main(words) == 0


def test_there_are_commands():
    assert {line.split()[0] for line in COMMANDS} == {"rirn", "torchrun"} and len(COMMANDS) >= 8
