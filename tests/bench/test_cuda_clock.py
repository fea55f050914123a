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
            def replay(self):
                log.append("replay")

        @contextlib.contextmanager
        def graph(captured):
            assert isinstance(captured, Graph)
            yield

        def stream(device=None):
            return SimpleNamespace(wait_stream=lambda other: None)

        self.fakes = {
            "Event": Event,
            "CUDAGraph": Graph,
            "graph": graph,
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
    assert clock.flush.numel() == 128
    clock.flush = SimpleNamespace(zero_=lambda: fake.log.append("flush"))
    return clock, fake.log


def test_every_call_has_its_flush_and_events(cuda):
    clock, log = cuda
    job = Job(lambda _: log.append("run"), lambda: log.append("prepare"))
    assert clock.sample(job, 2) == pytest.approx(2e-3)
    assert log == ["prepare", "flush", "event", "run", "event"] * 2 + ["synchronize"]


def test_a_graph_is_captured_after_a_warm_up_and_replayed(cuda):
    clock, log = cuda
    job, replayed = clock.ready(Job(lambda _: log.append("run")))
    assert replayed and log == ["run"] * 4
    log.clear()
    clock.sample(job, 1)
    assert log == ["flush", "event", "replay", "event", "synchronize"]


def test_what_cannot_be_captured_runs_as_it_is(cuda):
    clock, log = cuda

    def fails(_):
        raise RuntimeError("operation not permitted when stream is capturing")

    for job in (Job(fails), Job(lambda x: log.append("run"), lambda: 1)):
        assert clock.ready(job) == (job, False)
    assert "run" not in log
