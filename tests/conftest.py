"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch

from rirn.ops import why_not

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


@pytest.fixture
def threads():
    """Let a test change torch's number of threads and put it back afterwards."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


if os.environ.get("TRITON_INTERPRET") == "1":
    from tests.kernels import lab

    lab.install()

    @pytest.fixture(autouse=True)
    def _nothing_is_left_unwritten():
        """Let new memory hold NaN, so that no result can be right by having been left alone."""
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)
