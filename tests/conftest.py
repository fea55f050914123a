"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator

import pytest
import torch

from rirn.models.registry import BASES
from rirn.ops import why_not
from rirn.training.losses import LOSSES

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
FUSED = (
    "cpu",
    pytest.param("cuda", marks=pytest.mark.gpu),
    pytest.param("triton", marks=() if INTERPRETED else pytest.mark.gpu),
)


@pytest.fixture(params=FUSED)
def fused(request: pytest.FixtureRequest) -> Callable[[str], tuple[str, str]]:
    """Return a function from an op's name to the fused backend under test and the device type it runs on.

    Skips, with the backend's own words, where it cannot run.
    """

    def pick(op: str) -> tuple[str, str]:
        backend = request.param
        devices = ["cpu"] if backend == "cpu" else ["cuda"] if backend == "cuda" else ["cuda", "cpu"]
        reasons = [why_not(backend, op, device) for device in devices]
        if None not in reasons:
            pytest.skip(f"{backend}: {reasons[0]}")
        return backend, devices[reasons.index(None)]

    return pick


@pytest.fixture(autouse=True)
def registrations():
    """Take back what a test, or the example that it runs, registers: networks and losses."""
    before = [(names, dict(names)) for names in (BASES, LOSSES)]
    yield
    for names, content in before:
        names.clear()
        names.update(content)


@pytest.fixture
def threads():
    """Let a test change torch's number of threads and put it back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def may_skip_in_ci(reason: str, is_gpu: bool) -> bool:
    """Whether a test may skip where everything is there but a GPU."""
    return is_gpu or re.search(r"GPU|CUDA|nvcc|TRITON_INTERPRET", reason) is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that skips in CI for another reason than a missing GPU: it would never run anywhere."""
    report = yield
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not may_skip_in_ci(reason, item.get_closest_marker("gpu") is not None):
            report.outcome, report.longrepr = "failed", f"no test may skip in CI for this reason: {reason}"
    return report


if os.environ.get("TRITON_INTERPRET") == "1":
    from tests.kernels import lab

    lab.install()

    @pytest.fixture(autouse=True)
    def _nothing_is_left_unwritten():
        """Let new memory hold NaN, so that no result can be right by having been left alone."""
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)
