"""Limits of the machine, measured in the same run as everything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch

from rirn.bench.cases import DTYPES
from rirn.measure.timing import Clock, Job

TRIES = 7  # the best counts: a limit is what the machine reaches when undisturbed


class Extent(NamedTuple):
    """Sizes of the tensors used to measure the limits."""

    copied: int  # bytes
    side: int  # of square matrices


EXTENTS = {"cpu": Extent(2**28, 2048), "cuda": Extent(2**30, 8192)}
QUICK = Extent(2**26, 512)


def measure(
    device: torch.device, clock: Clock, dtypes: Iterable[str], quick: bool = False
) -> dict[str, float]:
    """Return ``copy``, in GB/s read and written, and matrix products by dtype name, in GFLOP/s: fp32, bf16 and ``dtypes``,
    except fp16 on the CPU, where it can take a minute."""
    extent = QUICK if quick else EXTENTS.get(device.type, EXTENTS["cpu"])
    source = torch.ones(extent.copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found = {"copy": 2 * extent.copied / _fastest(Job(lambda _: target.copy_(source)), clock) / 1e9}
    for name in dict.fromkeys(("fp32", "bf16", *dtypes)):
        if name == "fp16" and device.type == "cpu":
            continue
        a, b = torch.randn(2, extent.side, extent.side, device=device).to(DTYPES[name])
        job = Job(lambda _, a=a, b=b: a @ b)
        found[name] = 2 * extent.side**3 / _fastest(job, clock) / 1e9
    return found


def _fastest(job: Job, clock: Clock) -> float:
    clock.sample(job, 1)
    return min(clock.sample(job, 1) for _ in range(TRIES))


def product(limits: Mapping[str, float], dtype: str) -> float:
    """The matrix-product limit for a dtype: that of fp32 if the machine has no faster one in half precision."""
    return max(limits["fp32"], limits.get(dtype, 0.0))
