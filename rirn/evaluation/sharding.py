"""Sequences shared out among the processes that ``torchrun`` starts."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch.distributed as dist

Sized = TypeVar("Sized")

# A rank waits for the slowest one; where one of them fails, the launcher ends the others.
_TIMEOUT = datetime.timedelta(days=7)


@contextlib.contextmanager
def ranks() -> Iterator[tuple[int, int]]:
    """Rank of this process and how many there are, by the launcher's ``RANK`` and ``WORLD_SIZE``; (0, 1) without a launcher.

    Inside the block :func:`gather` works.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        yield 0, 1
        return
    # Only scores travel, a few kilobytes: gloo does for GPUs, too.
    dist.init_process_group("gloo", rank=rank, world_size=world, timeout=_TIMEOUT)
    try:
        yield rank, world
    finally:
        dist.destroy_process_group()


def share(items: Sequence[Sized], rank: int, world: int) -> list[int]:
    """Positions of the items that fall to a rank: the longest first, each to the rank that has least so far."""
    loads = [0] * world
    shares: list[list[int]] = [[] for _ in range(world)]
    for i in sorted(range(len(items)), key=lambda i: (-len(items[i]), i)):
        least = loads.index(min(loads))
        loads[least] += len(items[i])
        shares[least].append(i)
    return sorted(shares[rank])


def gather(results: dict[int, Sized], rank: int, world: int) -> list[Sized] | None:
    """The results of all ranks in the order of their positions at rank 0; None at the others."""
    if world == 1:
        return [results[i] for i in sorted(results)]
    collected: list[dict[int, Sized] | None] | None = [None] * world if rank == 0 else None
    dist.gather_object(results, collected)
    if collected is None:
        return None
    together = {i: result for part in collected for i, result in part.items()}
    return [together[i] for i in sorted(together)]
