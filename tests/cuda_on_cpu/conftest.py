from __future__ import annotations

from types import ModuleType

import pytest

from tests.cuda_on_cpu import build
from tests.cuda_on_cpu.mutants import HEAD


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print who caught which seeded bug."""
    reports = [
        r for found in terminalreporter.stats.values() for r in found if isinstance(r, pytest.TestReport)
    ]
    rows = [text for r in reports if r.when == "call" for key, text in r.user_properties if key == "mutant"]
    if rows:
        terminalreporter.section("seeded bugs")
        for text in [HEAD, *sorted(rows)]:
            terminalreporter.write_line(text)
