"""Training clips of several kinds, in fixed shares, through a camera."""

from __future__ import annotations

from collections.abc import Sequence as ListLike

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from rirn.data.camera import Camera, resize
from rirn.data.scenes import Scene
from rirn.data.sequences import digest
from rirn.data.sources import Pairing, Shutter, Source, Supply, open_source
from rirn.errors import RirnError

CAMERA, PAIRING, SHUTTER, SCENE = Camera(), Pairing(), Shutter(), Scene()


class MixedClips(Dataset):
    """An endless, numbered supply of clips from several sources; number i is always the same clip, in whatever order.

    Args:
        sources: folders, what they hold, and their shares.
        frames: T, frames per clip.
        crop: side of the square crop, pixels.
        seed: another seed gives other clips.
        camera: size, tone, noise and compression, the same for all sources.
        pairing: what is done to real pairs.
        shutter: exposures made from high-speed footage.
        scene: scenes made from photos.
        split: only sequences and footage of this split; see :func:`rirn.data.find_sequences`.
        cache_mib: memory for decoded frames, MiB, divided among the sources that read frames.

    Raises:
        RirnError: a folder holds nothing of its kind, or a frame is smaller than the crop.
    """

    def __init__(
        self,
        sources: ListLike[Source],
        *,
        frames: int,
        crop: int,
        seed: int,
        camera: Camera = CAMERA,
        pairing: Pairing = PAIRING,
        shutter: Shutter = SHUTTER,
        scene: Scene = SCENE,
        split: str | None = None,
        cache_mib: int = 2048,
    ):
        if not sources:
            raise RirnError("there is no source of clips; give data.train a folder")
        filmed = sum(source.kind != "photos" for source in sources)
        self._supplies: list[Supply] = [
            open_source(
                source,
                frames=frames,
                crop=crop,
                pairing=pairing,
                shutter=shutter,
                scene=scene,
                split=split,
                cache_mib=cache_mib // max(1, filmed),
            )
            for source in sources
        ]
        shares = np.cumsum([source.share for source in sources])
        self._shares = shares / shares[-1]
        self._crop, self._seed, self._camera = crop, seed, camera

    def __len__(self) -> int:
        """An epoch: the valid starts of all sources, with one per photo."""
        return sum(len(supply) for supply in self._supplies)

    def digest(self) -> str:
        """Return a short text that differs between supplies of different files."""
        return digest(supply.digest() for supply in self._supplies)

    def source(self, number: int) -> str:
        """Return where a clip comes from, for messages."""
        return self._draw(np.random.default_rng([self._seed, number]))[0]

    def _draw(self, rng: np.random.Generator):
        # The last share is 1 up to rounding.
        index = min(int(np.searchsorted(self._shares, rng.random(), "right")), len(self._supplies) - 1)
        return self._supplies[index].draw(rng)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Blurry and sharp clip, float32 [T, 3, crop, crop] in [0, 1]."""
        rng = np.random.default_rng([self._seed, number])
        _, read = self._draw(rng)
        blurry, sharp = read(self._crop, self._camera.draw_scale(rng))
        if blurry.shape[1] != self._crop:
            blurry, sharp = (resize(clip, (self._crop, self._crop)) for clip in (blurry, sharp))
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        blurry, sharp = (
            np.ascontiguousarray(np.rot90(clip[:, :, ::-1] if flip else clip, turns, axes=(1, 2)))
            for clip in (blurry, sharp)
        )
        blurry, sharp = self._camera.film(blurry, sharp, rng)
        return _images(blurry), _images(sharp)


def _images(clip: np.ndarray) -> Tensor:
    return torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 255
