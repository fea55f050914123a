"""Every example in the docstrings of rirn.ops runs and prints what it says, and docs/ops.md says the same."""

import doctest
import importlib
import pkgutil

import pytest

import rirn.kernels
import rirn.ops
from rirn.ops.backends import OPS
from tests.ops import page

MODULES = sorted(f"rirn.ops.{module.name}" for module in pkgutil.iter_modules(rirn.ops.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    monkeypatch.setattr(rirn.ops.backends, "_environment", "auto")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", rirn.ops.__all__)
def test_every_public_function_has_an_example(name):
    assert ">>>" in getattr(rirn.ops, name).__doc__


def test_the_page_is_that_of_the_docstrings():
    text = page.PAGE.read_text(encoding="utf-8")
    assert text == page.written(text), "run `python -m tests.ops.page`"


def test_the_page_begins_with_all_ops():
    """And with what it says of their forms."""
    head = page.PAGE.read_text(encoding="utf-8").partition(page.BEGIN)[0]
    assert [name for name in OPS if f"[`{name}`](#{name})" not in head] == []
    assert "All eight ops have all forms." in head and set(OPS) == set(rirn.kernels.OPS) and len(OPS) == 8
    for room, suffix in (("csrc/cpu", "cpp"), ("csrc/cuda", "cu")):
        sources = "".join(path.read_text() for path in (page.ROOT / room).glob(f"*.{suffix}"))
        assert [name for name in OPS if f'"{name}"' not in sources] == []
