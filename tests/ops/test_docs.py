"""Every example in the docstrings of rirn.ops runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import rirn.ops

MODULES = sorted(f"rirn.ops.{module.name}" for module in pkgutil.iter_modules(rirn.ops.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    monkeypatch.setattr(rirn.ops.backends, "_environment", "auto")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


@pytest.mark.parametrize("name", rirn.ops.__all__)
def test_every_public_function_has_an_example(name):
    assert ">>>" in getattr(rirn.ops, name).__doc__
