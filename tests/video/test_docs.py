"""Every example in the docstrings of rirn.video runs and prints what it says."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import rirn.video
from tests.video.clips import Identity, write_clip

MODULES = sorted(f"rirn.video.{module.name}" for module in pkgutil.iter_modules(rirn.video.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip("clip.mp4", 2, audio=("aac",))
    names = {name: getattr(rirn.video, name) for name in rirn.video.__all__} | {"model": Identity()}
    assert doctest.testmod(importlib.import_module(name), extraglobs=names).failed == 0


def test_the_main_entries_have_an_example():
    for entry in (rirn.video.deblur, rirn.video.Reader, rirn.video.VideoWriter):
        assert ">>>" in entry.__doc__


def test_the_notes_name_tests_that_exist():
    folder = Path(__file__).parent
    page = (folder.parents[1] / "notes" / "robustness.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    assert len(named) > 20
    for file, name in named:
        (path,) = (p for room in (folder, folder.parent / "compare") if (p := room / f"{file}.py").exists())
        assert f"def {name}(" in path.read_text(encoding="utf-8"), f"{file}::{name}"
