"""The command lines of docs/training.md name options and recipes that exist."""

import re
import shlex
from pathlib import Path

import pytest

from rirn.cli import COMMANDS
from rirn.training.recipes import recipes

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"^```\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
LINES = [line.removeprefix("$ ") for line in BLOCKS.splitlines() if re.search(r"\brirn (train|table) ", line)]


@pytest.mark.parametrize("line", LINES)
def test_command_lines_are_understood(line):
    words = shlex.split(line, comments=True)
    words = words[next(i for i, word in enumerate(words) if word in ("train", "table")) :]
    parser = COMMANDS[words[0]][0]()
    known = {option.rstrip("+") for action in parser._actions for option in action.option_strings}
    assert {re.match(r"--[\w.-]+", word)[0] for word in words if word.startswith("--")} <= known


def test_all_recipes_are_described():
    assert len(LINES) >= 7
    assert set(recipes()) <= set(re.findall(r"`([\w-]+)`", TEXT))
