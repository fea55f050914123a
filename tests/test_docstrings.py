"""Every example in a docstring of the package runs and prints what it says."""

import doctest
import importlib
from pathlib import Path

import pytest

import rirn
from rirn.ops import backends
from tests.test_architecture import SOURCES
from tests.video.clips import Identity, write_clip

MODULES = [
    module
    for module, path in SOURCES.items()
    if ">>>" in path.read_text("utf-8")
    and not module.startswith("rirn.bench")  # tests/bench/test_cost.py runs these
]
NEEDS = {"rirn.export": ("onnx", "onnxscript", "onnxruntime")}
PUBLIC = [
    *(getattr(rirn.ops, name) for name in rirn.ops.__all__),
    *(rirn.create_model, rirn.models.VideoDeblurrer, rirn.models.summary, rirn.stream),
    *(rirn.nn.ATB, rirn.nn.IRM, rirn.video.Reader, rirn.video.VideoWriter, rirn.video.deblur),
]
"""What people look up."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    monkeypatch.setattr(backends, "_environment", "auto")
    monkeypatch.chdir(tmp_path)
    names = None
    if name.startswith("rirn.video"):  # its examples restore clip.mp4 with `model`
        write_clip(Path("clip.mp4"), 2, audio=("aac",))
        names = {**vars(rirn.video), "model": Identity()}
    found = doctest.testmod(importlib.import_module(name), extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert found.attempted and found.failed == 0


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_public_names_have_an_example(public):
    assert ">>>" in public.__doc__
