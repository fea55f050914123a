"""Every example in the docstrings of the models and modules runs and prints what it says."""

import doctest
import importlib
import pkgutil

import pytest

import rirn.models
import rirn.nn

NAMES = [
    f"{package.__name__}.{module.name}"
    for package in (rirn.models, rirn.nn)
    for module in pkgutil.iter_modules(package.__path__)
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("public", ["VideoDeblurrer", "create_model", "summary"])
def test_public_names_have_examples(public):
    assert ">>>" in getattr(rirn.models, public).__doc__
