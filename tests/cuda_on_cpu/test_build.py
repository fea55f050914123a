"""What is said where the CUDA sources cannot be compiled for the CPU."""

from __future__ import annotations

import pytest

from tests.cuda_on_cpu import build


@pytest.fixture(autouse=True)
def fresh():
    build.why_not.cache_clear()
    yield
    build.why_not.cache_clear()


@pytest.mark.parametrize("missing", ["g++", "ninja"])
def test_a_missing_tool_is_named(missing, monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name == missing else f"/bin/{name}")
    assert build.why_not() == f"no {missing} on PATH"


def test_another_processor_is_named(monkeypatch):
    monkeypatch.setattr(build.platform, "machine", lambda: "aarch64")
    assert "aarch64" in build.why_not()


def test_missing_headers_are_named(monkeypatch):
    monkeypatch.setattr(build, "cuda_include", lambda: None)
    reason = build.why_not()
    assert reason and ("CUDA_HOME" in reason or "PATH" in reason or "pybind11" in reason)
