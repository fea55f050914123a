"""Loading of clips for training steps."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from rirn.data.clips import ClipDataset
from rirn.data.mixture import MixedClips
from rirn.distributed import World
from rirn.errors import RirnError
from rirn.training.config import DataConfig


@dataclasses.dataclass(frozen=True)
class Piece:
    """What one step works on: a run of frames of some clips, the whole clips unless they are chunked."""

    blurry: Tensor
    """[N, T, 3, H, W], the input frames, RGB in [0, 1]."""
    sharp: Tensor
    """[N, T', 3, H, W], the truth of the output frames; a look-ahead shifts them."""
    numbers: list[int]
    """Numbers of the clips, see :class:`rirn.data.ClipDataset`."""
    first: bool
    """The clips start here."""
    last: bool
    """The clips end here."""

    @property
    def weight(self) -> float:
        """Factor on the mean loss of the output frames, so that every frame of a clip counts once and equally."""
        return self.sharp.shape[1] / self.blurry.shape[1]


class NumberedClips(Dataset):
    """An endless, numbered supply of the items of a dataset, each epoch in a different order.

    An item is made with generators of torch, NumPy and Python that are seeded for its number: it is the same in every process
    and in a resumed run.

    Args:
        dataset: with a length.
        frames: T of its clips.
        seed: another seed gives another order and other random numbers.

    Raises:
        RirnError: the dataset is empty or has no length.
    """

    def __init__(self, dataset: Dataset, *, frames: int, seed: int):
        try:
            self._length = len(dataset)  # type: ignore[arg-type]
        except TypeError as error:
            raise RirnError(
                f"the dataset {type(dataset).__name__} has no length; give one with __len__ and __getitem__"
            ) from error
        if not self._length:
            raise RirnError(f"the dataset {type(dataset).__name__} is empty")
        self._dataset, self._frames, self._seed = dataset, frames, seed

    def __len__(self) -> int:
        return self._length

    def _index(self, number: int) -> int:
        epoch, place = divmod(number, self._length)
        return int(np.random.default_rng([self._seed, epoch]).permutation(self._length)[place])

    def digest(self) -> str:
        """Return the name and the length of the dataset, which is all that is known of it."""
        return f"{type(self._dataset).__name__}, {self._length}"

    def source(self, number: int) -> str:
        """Name the item that a clip is, for messages."""
        return f"{type(self._dataset).__name__}[{self._index(number)}]"

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        with _seeded(int(np.random.default_rng([self._seed, number]).integers(2**32))):
            blurry, sharp = self._dataset[self._index(number)]
        if blurry.shape != sharp.shape or blurry.ndim != 4 or blurry.shape[:2] != (self._frames, 3):
            raise RirnError(
                f"{self.source(number)} must be a blurry and a sharp clip [T, 3, H, W] of one size with the T of data.frames, "
                f"{self._frames}; got {list(blurry.shape)} and {list(sharp.shape)}"
            )
        return blurry, sharp


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the CPU generators of torch, NumPy and Python, and put them back."""
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        np.random.set_state(before[1])
        random.setstate(before[2])


class ClipNumbers:
    """Clips that a process takes from each of some batches: the joint batch is the same for any number of processes.

    Args:
        batches: numbers of the batches.
        batch: number of clips in a joint batch.
        world: the processes that share it.
    """

    def __init__(self, batches: range, batch: int, world: World):
        self._batches, self._batch, self._share, self._rank = batches, batch, world.share(batch), world.rank

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        for number in self._batches:
            first = self._batch * number + self._share * self._rank
            yield list(range(first, first + self._share))


def pieces(
    clips: ClipDataset | MixedClips | NumberedClips,
    data: DataConfig,
    world: World,
    *,
    first: int,
    steps: int,
    delay: int,
) -> Iterator[Piece]:
    """Yield what steps ``first`` to ``steps - 1`` work on, on the device of the process.

    Args:
        clips: the numbered supply.
        data: batch, chunks and workers.
        world: the processes that share the batch.
        first: steps already done; clips that are only partly done are read again.
        steps: length of the run.
        delay: frames that the model looks ahead.

    Raises:
        RirnError: a frame cannot be read.
    """
    chunks = data.chunks
    numbers = ClipNumbers(range(first // chunks, -(-steps // chunks)), data.batch, world)
    loader = DataLoader(
        clips,
        batch_sampler=numbers,
        num_workers=data.workers,
        pin_memory=world.device.type == "cuda",
        # A separate one, else starting the workers would draw from the generator that checkpoints restore.
        generator=Generator(),
    )
    step, length = first, data.frames // chunks
    for batch, (blurry, sharp) in zip(numbers, _plainly(loader), strict=True):
        for piece in range(step % chunks, min(chunks, step % chunks + steps - step)):
            begin, end, last = piece * length, (piece + 1) * length, piece + 1 == chunks
            out = slice(max(0, begin - delay), end if last else end - delay)
            yield Piece(
                blurry[:, begin:end].to(world.device, non_blocking=True),
                sharp[:, out].to(world.device, non_blocking=True),
                batch,
                first=piece == 0,
                last=last,
            )
            step += 1


def _plainly(loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches; raise an error of a worker process with its original one-sentence message."""
    try:
        yield from loader
    except RirnError as error:
        # The loader wraps the worker's traceback around it.
        sentence = str(error).strip().splitlines()[-1]
        raise RirnError(sentence.removeprefix(f"{RirnError.__module__}.{RirnError.__qualname__}: ")) from None
