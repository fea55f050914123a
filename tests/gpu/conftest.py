"""Where the tests of this room run: on a GPU, and once on the CPU, so that they are known to work where no GPU is.

`pytest -m gpu` runs what needs a GPU, here and in the other rooms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch

from rirn.ops import why_not
from rirn.ops._register import form
from rirn.ops.backends import why_no_gpu


class Place(NamedTuple):
    """A backend and the device it is tested on."""

    backend: str
    device: str

    def op(self, name: str) -> Callable[..., Any]:
        """The torch op of a name; skips, with the reason, where the backend has none."""
        forward = name.removesuffix("_backward")
        reason = why_not(self.backend, forward, self.device)
        if reason:
            pytest.skip(f"{self.backend}: {reason}")
        form(forward, self.backend)  # defines the torch ops of Triton
        name = f"triton_{name}" if self.backend == "triton" else name
        return getattr(torch.ops.rirn, name)

    def __str__(self) -> str:
        return self.backend


def _skip_without_gpu(device: str) -> str:
    if device == "cuda" and why_no_gpu():
        pytest.skip(f"needs a GPU: {why_no_gpu()}")
    return device


PLACES = [Place("cpu", "cpu"), Place("cuda", "cuda"), Place("triton", "cuda")]


@pytest.fixture(
    params=[p if p.device == "cpu" else pytest.param(p, marks=pytest.mark.gpu) for p in PLACES], ids=str
)
def place(request: pytest.FixtureRequest) -> Place:
    """A backend on its device."""
    _skip_without_gpu(request.param.device)
    return request.param


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """A device, with the backends that ``auto`` takes there."""
    return _skip_without_gpu(request.param)
