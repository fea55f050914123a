"""Random training clips from sequences."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence as ListLike

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rirn.data.cache import FrameCache
from rirn.data.images import image_size
from rirn.data.sequences import Sequence, check_alike, check_crop, digest, of_length


class ClipDataset(Dataset):
    """An endless, numbered supply of clips; number i is always the same clip, in whatever order.

    A :class:`torch.utils.data.DataLoader` thus gives the same batches with any number of workers. All frames of a clip, blurry
    and sharp, share one crop, flip, rotation and direction of time.

    Args:
        sequences: where the clips come from; each valid start in each sequence is equally likely.
        frames: T, frames per clip.
        crop: side of the square crop, pixels.
        seed: another seed gives other clips.
        cache_mib: memory for decoded frames, MiB, shared by all forked workers of a DataLoader; with another start
            method, each of n workers keeps its own frames in an n-th of it.

    Raises:
        RirnError: no sequence is long enough, or a frame is smaller than the crop or unlike its partner.
    """

    def __init__(
        self,
        sequences: ListLike[Sequence],
        *,
        frames: int,
        crop: int,
        seed: int,
        cache_mib: int = 2048,
    ):
        self._sequences = of_length(sequences, frames)
        for sequence in self._sequences:
            check_crop(*image_size(sequence.blurry[0]), crop, sequence.blurry[0])
        self._ends = list(itertools.accumulate(len(s) - frames + 1 for s in self._sequences))
        self._frames, self._crop, self._seed = frames, crop, seed
        paths = (path for s in self._sequences for path in (*s.blurry, *s.sharp))
        self._cache = FrameCache(paths, cache_mib << 20)

    def __len__(self) -> int:
        """Number of valid starts: one epoch."""
        return self._ends[-1]

    def digest(self) -> str:
        """Return a short text that differs between supplies of different sequences."""
        return digest((s.name, len(s)) for s in self._sequences)

    def source(self, number: int) -> str:
        """Return where a clip comes from, for messages: ``sequence/first frame``."""
        sequence, start = self._place(np.random.default_rng([self._seed, number]))
        return f"{sequence.name}/{sequence.blurry[start].stem}"

    def _place(self, rng: np.random.Generator) -> tuple[Sequence, int]:
        """The sequence of a clip and its first frame, the first thing that the clip's generator decides."""
        start = int(rng.integers(self._ends[-1]))
        index = bisect.bisect_right(self._ends, start)
        return self._sequences[index], start - (self._ends[index - 1] if index else 0)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Blurry and sharp clip, float32 [T, 3, crop, crop] in [0, 1]."""
        rng = np.random.default_rng([self._seed, number])
        sequence, start = self._place(rng)
        paths = (sequence.blurry[start : start + self._frames], sequence.sharp[start : start + self._frames])
        frames = [[self._cache.read(p) for p in group] for group in paths]
        size = frames[0][0].shape
        check_crop(size[1], size[0], self._crop, paths[0][0])
        check_alike(itertools.chain(*paths), itertools.chain(*frames))
        y, x = (int(rng.integers(side - self._crop + 1)) for side in size[:2])
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        clips = []
        for group in frames:
            clip = np.stack([f[y : y + self._crop, x : x + self._crop] for f in group])
            clip = np.rot90(clip[:, :, ::-1] if flip else clip, turns, axes=(1, 2))
            clips.append(torch.from_numpy(np.ascontiguousarray(clip)).permute(0, 3, 1, 2).float() / 255)
        return clips[0], clips[1]
