"""Alternating timing: competitors take turns, so that a busy moment of the machine affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch

SHORTEST_SAMPLE = (
    5e-3  # seconds; calls are repeated until a sample lasts this long, far above the clock's resolution
)
FEWEST_ROUNDS = 3

Key = TypeVar("Key", bound=Hashable)


class Job(NamedTuple):
    """One thing to time: ``run`` gets what ``prepare`` returns for each call, and only ``run`` is timed."""

    run: Callable[[Any], object]
    prepare: Callable[[], Any] | None = None


class Spread(NamedTuple):
    """Quartiles of the time of one call in milliseconds, and the number of rounds."""

    median: float
    low: float
    high: float
    rounds: int


class CpuClock:
    """Wall-clock time."""

    def ready(self, job: Job) -> tuple[Job, bool]:
        """Return the job in the form to time, and whether it replays a graph."""
        return job, False

    def sample(self, job: Job, repeats: int) -> float:
        """Mean time of one call over ``repeats`` calls, in seconds."""
        total = 0.0
        for _ in range(repeats):
            prepared = job.prepare() if job.prepare else None
            begin = time.perf_counter()
            job.run(prepared)
            total += time.perf_counter() - begin
        return total / repeats


class CudaClock:
    """Time between two events on a GPU, with the L2 cache full of other memory before every call."""

    def __init__(self, device: torch.device):
        self.device = device
        cache = torch.cuda.get_device_properties(device).L2_cache_size
        self.flush = torch.zeros(max(2 * cache // 4, 1), dtype=torch.int32, device=device)

    def ready(self, job: Job) -> tuple[Job, bool]:
        """Return the job as the replay of a CUDA graph if it can be captured, so that launches cost nothing; its preparation,
        too."""
        try:
            return self._captured(job), True
        except RuntimeError:  # something in it synchronises or does its own allocation
            torch.cuda.synchronize(self.device)
            return job, False

    def _captured(self, job: Job) -> Job:
        aside = torch.cuda.Stream(self.device)
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(3):
                job.run(job.prepare() if job.prepare else None)
        torch.cuda.current_stream(self.device).wait_stream(aside)
        # One pool: the second graph may overwrite what it reads from the first, which is replayed before it.
        prepared, prepare, pool = None, None, torch.cuda.graph_pool_handle()
        if job.prepare is not None:
            first = torch.cuda.CUDAGraph()
            with torch.cuda.graph(first, pool=pool):
                prepared = job.prepare()
            prepare = first.replay
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            job.run(prepared)
        return Job(lambda _: graph.replay(), prepare)

    def _clear_cache(self) -> None:
        """Clear it by reading: what is written to a cache is written back while the call runs, and slows it."""
        self.flush.max()

    def sample(self, job: Job, repeats: int) -> float:
        """Mean time of one call over ``repeats`` calls, in seconds."""
        spans = []
        for _ in range(repeats):
            prepared = job.prepare() if job.prepare else None
            self._clear_cache()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            job.run(prepared)
            end.record()
            spans.append((start, end))
        torch.cuda.synchronize(self.device)
        return sum(start.elapsed_time(end) for start, end in spans) / 1e3 / repeats


Clock = CpuClock | CudaClock


def clock_for(device: torch.device) -> Clock:
    """Return the clock for a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


def alternate(jobs: Mapping[Key, Job], clock: Clock, rounds: int, seconds: float) -> dict[Key, Spread]:
    """Return the quartiles of each job over rounds that time every job once.

    There are as many rounds as fit into ``seconds``, at most ``rounds``, and at least three unless ``rounds`` is less. The jobs
    have run before: the check of their results is the warm-up.
    """
    repeats, round_time = {}, 0.0
    for name, job in jobs.items():
        once = max(clock.sample(job, 1), 1e-9)
        repeats[name] = max(1, round(SHORTEST_SAMPLE / once))
        round_time += once * repeats[name]
    if jobs:
        rounds = min(rounds, max(FEWEST_ROUNDS, int(seconds / round_time)))
    times: dict[Key, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            times[name].append(1e3 * clock.sample(job, repeats[name]))
    return {name: spread(values) for name, values in times.items()}


def spread(values: list[float]) -> Spread:
    """Return the quartiles of the times."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))
