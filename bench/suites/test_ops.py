"""Every op on every backend that runs here, for pytest-benchmark: ``make bench-ops``.

Beside ``python -m rirn.bench``, which is for claims, this is for watching one op while working on it: with
``--benchmark-autosave`` and ``--benchmark-compare`` against earlier runs of the same machine. Only right numbers are timed
here, too.
"""

import pytest
import torch

from rirn.bench.cases import Case
from rirn.bench.measure import Competitor, Entrant, Truth, matches
from rirn.bench.subjects import make
from rirn.measure.timing import Job
from rirn.ops import available_backends
from rirn.ops.spec import OPS

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HEIGHT, WIDTH = 90, 160  # small enough that a suite takes minutes, too large for the caches

CASES = [
    (name, c, backend)
    for name in OPS
    for c in OPS[name].channels
    for backend in available_backends(name, DEVICE)
]


def synchronized(job: Job) -> None:
    """Run a job once and wait for it."""
    job.run(None)
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)


@pytest.mark.parametrize("passes", ["forward", "forward+backward"])
@pytest.mark.parametrize(("name", "channels", "backend"), CASES)
def test_op(benchmark, name, channels, backend, passes):
    benchmark.group = f"{name} c={channels} {passes}"
    case = Case("ops", name, channels, HEIGHT, WIDTH, "fp32")
    subject = make(case)
    entrant = Entrant(Competitor(backend, backend), subject, case, DEVICE)
    with_gradients = passes != "forward"
    errors = Truth(case, subject, DEVICE, with_gradients).check(entrant, with_gradients)
    assert matches(case, errors), errors
    benchmark(synchronized, entrant.job(passes))
