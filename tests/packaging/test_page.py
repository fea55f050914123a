"""docs/install.md says what setup.py and the library say, and has a row for every way to install."""

import re

import pytest

from tests.packaging.installs import ROOT
from tests.packaging.matrix import WAYS

PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
SOURCES = "".join(
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("setup.py", "rirn/ops/_library.py", "rirn/doctor.py")
)


@pytest.mark.parametrize("name", WAYS)
def test_every_way_has_its_row(name):
    assert f"\n| {WAYS[name].what} | " in PAGE


@pytest.mark.parametrize(
    "message", re.findall(r"^\| `([^`]+)`", PAGE.partition("## When it goes wrong")[2], re.M)
)
def test_messages_are_those_of_the_code(message):
    assert all(part.strip() in SOURCES for part in message.split("…"))


def test_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"`?make ([a-z-]+)", PAGE))
    assert {"wheel", "sdist", "test-torch-next", "test-torch-oldest"} <= named <= targets
