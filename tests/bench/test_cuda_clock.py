"""The clock for GPUs against a stand-in for torch.cuda that writes down what happens; no GPU needed."""

import contextlib
from types import SimpleNamespace

import pytest
import torch

from rirn.measure.timing import CudaClock, Job


class FakeCuda:
    """Records calls in order; the time between two events is 2 ms."""

    def __init__(self):
        self.log: list[str] = []
        log = self.log

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                log.append("event")

            def elapsed_time(self, other):
                assert log[-1] == "synchronize"
                return 2.0

        class Graph:
            made = 0

            def __init__(self):
                Graph.made += 1
                self.number = Graph.made

            def replay(self):
                log.append(f"replay {self.number}")

        @contextlib.contextmanager
        def graph(captured, pool):
            assert isinstance(captured, Graph) and pool == "pool"
            log.append("capture")
            yield

        def stream(device=None):
            return SimpleNamespace(wait_stream=lambda other: None)

        self.fakes = {
            "Event": Event,
            "CUDAGraph": Graph,
            "graph": graph,
            "graph_pool_handle": lambda: "pool",
            "Stream": stream,
            "current_stream": stream,
            "stream": lambda s: contextlib.nullcontext(),
            "synchronize": lambda device=None: log.append("synchronize"),
            "get_device_properties": lambda device: SimpleNamespace(L2_cache_size=64),
        }


@pytest.fixture
def cuda(monkeypatch):
    fake = FakeCuda()
    for name, value in fake.fakes.items():
        monkeypatch.setattr(torch.cuda, name, value)
    clock = CudaClock(torch.device("cpu"))
    assert clock.flush.nbytes == 128
    clock.flush = SimpleNamespace(max=lambda: fake.log.append("flush"))  # read, not written
    return clock, fake.log


def test_every_call_has_its_flush_and_events(cuda):
    clock, log = cuda
    job = Job(lambda _: log.append("run"), lambda: log.append("prepare"))
    assert clock.sample(job, 2) == pytest.approx(2e-3)
    assert log == ["prepare", "flush", "event", "run", "event"] * 2 + ["synchronize"]


def test_a_graph_is_captured_after_a_warm_up_and_replayed(cuda):
    clock, log = cuda
    job, replayed = clock.ready(Job(lambda _: log.append("run")))
    assert replayed and log == [*["run"] * 3, "capture", "run"]
    log.clear()
    clock.sample(job, 1)
    assert log == ["flush", "event", "replay 1", "event", "synchronize"]


def test_what_is_prepared_has_a_graph_of_its_own_that_is_not_timed(cuda):
    """As the forward pass in front of a backward pass."""
    clock, log = cuda
    made = iter(range(9))
    job, replayed = clock.ready(Job(lambda x: log.append(f"run {x}"), lambda: next(made)))
    assert replayed and log == ["run 0", "run 1", "run 2", "capture", "capture", "run 3"]
    log.clear()
    clock.sample(job, 2)
    assert log == ["replay 1", "flush", "event", "replay 2", "event"] * 2 + ["synchronize"]


def test_what_cannot_be_captured_runs_as_it_is(cuda):
    clock, log = cuda

    def fails(_):
        raise RuntimeError("operation not permitted when stream is capturing")

    for job in (Job(fails), Job(fails, lambda: 1), Job(lambda x: log.append("run"), lambda: fails(1))):
        assert clock.ready(job) == (job, False)
    assert "run" not in log
