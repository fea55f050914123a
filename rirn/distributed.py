"""Several processes on one task, as ``torchrun`` starts them; a single process is a world of size 1."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from rirn.devices import pick_device
from rirn.errors import RirnError
from rirn.models.state import State

Result = TypeVar("Result")

# Longer than the default: processes wait for each other while they validate whole videos of unequal length.
_TIMEOUT = datetime.timedelta(hours=2)

WORK_APART = datetime.timedelta(days=7)
"""Timeout of processes that work independently and meet at the end; if one dies, the launcher ends the others."""


@dataclasses.dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. Every process must call each of the methods that gather or reduce."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """The one process that writes files and prints."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Clips of a batch that each process takes.

        Raises:
            RirnError: the batch cannot be divided evenly, which would weight clips unequally.
        """
        if batch % self.size:
            raise RirnError(
                f"data.batch must be a multiple of the {self.size} processes that share it; got {batch}"
            )
        return batch // self.size

    def mean(self, values: Sequence[float]) -> list[float]:
        """Mean of each value over the processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return (total / self.size).tolist()

    def any(self, flag: bool) -> bool:
        """Whether a flag is set in any process."""
        return self.mean([float(flag)])[0] > 0

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def collect(self, results: Mapping[int, Result]) -> list[Result] | None:
        """The results of all processes in the order of their positions, in the main one; None in the others."""
        together = {i: result for part in self.gather(dict(results)) for i, result in part.items()}
        return [together[i] for i in sorted(together)] if self.main else None

    def from_main(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returns in the main process, in all of them: the others need not see its files."""
        values = [make() if self.main else None]
        if self.size > 1:
            dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def gather_state(self, state: State) -> State:
        """The state of the joint batch."""
        return state.map(self._gather_batch)

    def _gather_batch(self, tensor: Tensor) -> Tensor:
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts)

    def wrap(self, module: nn.Module, unused: bool = False) -> nn.Module:
        """The module with gradients that are means over the processes.

        Args:
            module: its forward is called once for each backward.
            unused: some parameters may have no part in the result.
        """
        if self.size == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=unused)


@contextlib.contextmanager
def join_world(device: str, timeout: datetime.timedelta = _TIMEOUT) -> Iterator[World]:
    """The world that torchrun's environment variables describe; without them, this process alone.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ...; with several processes, plain ``cuda`` is the GPU of the local rank.
        timeout: how long a process waits for the others.
    """
    chosen = pick_device(device)
    size = int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1
    if size == 1:
        yield World(chosen)
        return
    if chosen.type == "cuda":
        if device in ("auto", "cuda"):  # never one that another process has: NCCL refuses that
            chosen = pick_device(f"cuda:{os.environ['LOCAL_RANK']}")
        torch.cuda.set_device(chosen)
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        timeout=timeout,
        store=without_leftovers(store, rank, size, timeout),
        rank=rank,
        world_size=size,
    )
    try:
        yield World(chosen, rank, size)
    finally:
        dist.destroy_process_group()


def without_leftovers(store: dist.Store, rank: int, size: int, timeout: datetime.timedelta) -> dist.Store:
    """A part of the store that is empty, and the same in all processes that call this now.

    torchrun keeps its store when it restarts processes, so that one of them may find the address of another that is
    gone. How often there was a restart is no name for a part: each machine counts its own. So the first process invents
    a name and tells it to those who ask, each with a word of its own, until all have it: what dead ones asked or were told
    leads nowhere.

    Raises:
        RirnError: the others did not come in time.
    """
    name, end = uuid.uuid4().hex, time.monotonic() + timeout.total_seconds()
    if rank:
        store.set(f"rirn/asks/{rank}", name)
        store.wait([f"rirn/told/{name}"], timeout)
        name = store.get(f"rirn/told/{name}").decode()
        store.set(f"rirn/knows/{name}/{rank}", "")
    missing = set(range(1, size)) if rank == 0 else set()
    while missing:
        for other in sorted(missing):
            if store.check([f"rirn/knows/{name}/{other}"]):
                missing.remove(other)
            elif store.check([f"rirn/asks/{other}"]):
                store.set(f"rirn/told/{store.get(f'rirn/asks/{other}').decode()}", name)
        if missing and time.monotonic() > end:
            raise RirnError(
                f"{len(missing)} of {size} processes did not come within {timeout}; look at their errors, then start all again"
            )
        time.sleep(0.02)
    return dist.PrefixStore(name, store)
