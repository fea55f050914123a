"""Timing by turns: competitors alternate, so that a busy moment of the machine meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

SHORTEST_SAMPLE = (
    5e-3  # seconds; calls are repeated until a sample lasts as long, far above the clock's resolution
)


class Spread(NamedTuple):
    """Quartiles of the time of one call, in milliseconds."""

    median: float
    low: float
    high: float


def sample(function: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the mean time of one call over ``repeats`` calls in a row, in seconds."""
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(repeats):
            function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats
    begin = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - begin) / repeats


def alternate(
    functions: Mapping[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, Spread]:
    """Return the quartiles of each function over ``rounds`` rounds, in each of which every one is timed once.

    The functions have run before: the check of their numbers is the warm-up.
    """
    repeats = {}
    for name, function in functions.items():
        repeats[name] = max(1, round(SHORTEST_SAMPLE / max(sample(function, 1, device), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(1e3 * sample(function, repeats[name], device))
    return {name: spread(values) for name, values in times.items()}


def spread(values: list[float]) -> Spread:
    """Return the quartiles of some times."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)
