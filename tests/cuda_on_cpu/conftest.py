from __future__ import annotations

from types import ModuleType

import pytest

from tests.cuda_on_cpu import build


@pytest.fixture(scope="session")
def emulator() -> ModuleType:
    """The emulator with all CUDA sources; skips where they cannot be compiled for the CPU."""
    reason = build.why_not()
    if reason:
        pytest.skip(reason)
    return build.emulator()


@pytest.fixture(autouse=True)
def defaults(request: pytest.FixtureRequest):
    """Put the order of threads back after a test that changed it."""
    yield
    if "emulator" in request.fixturenames:
        request.getfixturevalue("emulator").set_order("fwd")
