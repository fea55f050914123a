"""Sequences shared out among the processes that ``torchrun`` starts."""

from __future__ import annotations

import contextlib
import datetime
import os
import sys
from collections.abc import Iterator, Sized
from collections.abc import Sequence as ListLike
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist
from tqdm import tqdm

from rirn.data.sequences import Sequence
from rirn.errors import RirnError
from rirn.evaluation.evaluate import Score, evaluate
from rirn.evaluation.protocols import PROTOCOLS
from rirn.models.deblurrer import VideoDeblurrer

Result = TypeVar("Result")

# A rank waits for the slowest one; where one of them fails, the launcher ends the others.
_TIMEOUT = datetime.timedelta(days=7)


def evaluate_in_ranks(
    model: VideoDeblurrer,
    sequences: ListLike[Sequence],
    *,
    protocol: str = "rirn",
    workers: int = 0,
    save_to: Path | None = None,
) -> list[Score] | None:
    """All scores, with SSIM, at rank 0 in the order of the sequences; None at the other ranks.

    Every process that ``torchrun`` started calls this with the same arguments but its own device, and restores its share. The
    figures of a sequence go to the standard error output as soon as they are known.

    Raises:
        RirnError: as :func:`~rirn.evaluation.evaluate`; or, before any work, two sequences have one name, and so one folder of
            frames, or one is too short for the protocol.
    """
    if len({s.name for s in sequences}) < len(sequences):
        names = [s.name for s in sequences]
        raise RirnError(
            f"two sequences are called {max(names, key=names.count)}; score their folders one by one"
        )
    for sequence in sequences:
        try:
            PROTOCOLS[protocol].windows(len(sequence))
        except RirnError as error:
            raise RirnError(f"{sequence.name}: {error}") from error
    with ranks() as (rank, world):
        mine = share(sequences, rank, world)
        scores = {}
        todo = evaluate(
            model,
            [sequences[i] for i in mine],
            protocol=protocol,
            with_ssim=True,
            workers=workers,
            save_to=save_to,
        )
        with tqdm(total=len(mine), unit="sequence", disable=None) as bar:
            for i, score in zip(mine, todo, strict=True):
                scores[i] = score
                bar.write(f"{score.sequence}: {score.psnr_in:.2f} -> {score.psnr_out:.2f} dB", sys.stderr)
                bar.update()
        return gather(scores, rank, world)


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


def share(items: ListLike[Sized], rank: int, world: int) -> list[int]:
    """Positions of the items that fall to a rank: the longest first, each to the rank that has least so far."""
    loads = [0] * world
    shares: list[list[int]] = [[] for _ in range(world)]
    for i in sorted(range(len(items)), key=lambda i: (-len(items[i]), i)):
        least = loads.index(min(loads))
        loads[least] += len(items[i])
        shares[least].append(i)
    return sorted(shares[rank])


def gather(results: dict[int, Result], rank: int, world: int) -> list[Result] | None:
    """The results of all ranks in the order of their positions at rank 0; None at the others."""
    if world == 1:
        return [results[i] for i in sorted(results)]
    collected: list[dict[int, Result] | None] | None = [None] * world if rank == 0 else None
    dist.gather_object(results, collected)
    if collected is None:
        return None
    together = {i: result for part in collected for i, result in part.items()}
    return [together[i] for i in sorted(together)]
