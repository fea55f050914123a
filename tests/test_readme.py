"""The README's Python runs as it stands, and its shell lines name commands and options that exist."""

import re
import shlex
from pathlib import Path

import pytest

from rirn.cli import COMMANDS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [
    shlex.split(line, comments=True)
    for language, text in BLOCKS
    for line in text.splitlines()
    if not language and line.startswith("rirn ")
]


@pytest.mark.parametrize("code", PYTHON, ids=["streaming", "ops"])
def test_python_blocks_run(code):
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("words", SHELL, ids=" ".join)
def test_shell_lines_are_understood(words):
    parser = COMMANDS[words[1]][0]()
    known = {option.rstrip("+") for action in parser._actions for option in action.option_strings}
    used = {re.match(r"--[\w.]+", word)[0] for word in words if word.startswith("--")}
    assert used <= known


def test_there_is_something_to_test():
    assert len(SHELL) >= 5 and {"deblur", "train", "evaluate"} <= {words[1] for words in SHELL}
