"""Evaluation with sequences distributed among the processes that ``torchrun`` starts."""

from __future__ import annotations

import sys
from collections.abc import Sequence as ListLike
from collections.abc import Sized
from pathlib import Path

from tqdm import tqdm

from rirn.data.sequences import Sequence
from rirn.distributed import WORK_APART, join_world
from rirn.errors import RirnError
from rirn.evaluation.evaluate import Score, check_length, evaluate
from rirn.evaluation.protocols import PROTOCOLS
from rirn.models.deblurrer import VideoDeblurrer


def evaluate_in_ranks(
    model: VideoDeblurrer,
    sequences: ListLike[Sequence],
    *,
    protocol: str = "rirn",
    workers: int = 0,
    save_to: Path | None = None,
) -> list[Score] | None:
    """Return all scores, with SSIM, at rank 0 in the order of the sequences; None at the other ranks.

    Every process that ``torchrun`` started calls this with the same arguments except its own device, and restores its share.
    The scores of a sequence go to standard error as soon as they are known.

    Raises:
        RirnError: as for :func:`~rirn.evaluation.evaluate`; or, before any work, two sequences have the same name, and so the
            same folder of frames, or one is too short for the protocol or the model.
    """
    if len({s.name for s in sequences}) < len(sequences):
        names = [s.name for s in sequences]
        raise RirnError(
            f"two sequences are called {max(names, key=names.count)}; score their folders one by one"
        )
    for sequence in sequences:
        check_length(model, sequence, PROTOCOLS[protocol])
    # Only scores are exchanged, a few kilobytes: gloo, the CPU's backend, is good enough for GPUs, too.
    with join_world("cpu", WORK_APART) as world:
        mine = share(sequences, world.rank, world.size)
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
        return world.collect(scores)


def share(items: ListLike[Sized], rank: int, world: int) -> list[int]:
    """Return the positions of a rank's items: they are assigned longest first, each to the rank with the least so far."""
    loads = [0] * world
    shares: list[list[int]] = [[] for _ in range(world)]
    for i in sorted(range(len(items)), key=lambda i: (-len(items[i]), i)):
        least = loads.index(min(loads))
        loads[least] += len(items[i])
        shares[least].append(i)
    return sorted(shares[rank])
