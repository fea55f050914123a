"""Every example in a docstring of the package runs and prints what it says.

Those of rirn.video, which need a clip, and of rirn.bench run in tests/video/test_docs.py and tests/bench/test_launches.py.
"""

import doctest
import importlib

import pytest

import rirn
from rirn.ops import backends
from tests.test_architecture import SOURCES, inside

ELSEWHERE = ("rirn.video", "rirn.bench")
MODULES = [
    module
    for module, path in SOURCES.items()
    if ">>>" in path.read_text("utf-8") and not any(inside(module, package) for package in ELSEWHERE)
]
NEEDS = {"rirn.export": ("onnx", "onnxscript", "onnxruntime")}
PUBLIC = [
    *(getattr(rirn.ops, name) for name in rirn.ops.__all__),
    *(
        rirn.create_model,
        rirn.models.VideoDeblurrer,
        rirn.models.summary,
        rirn.stream,
        rirn.nn.ATB,
        rirn.nn.IRM,
    ),
]
"""What people look up."""


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    monkeypatch.setattr(backends, "_environment", "auto")
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted and found.failed == 0


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__name__)
def test_public_names_have_an_example(public):
    assert ">>>" in public.__doc__
