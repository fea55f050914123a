"""Where training clips come from: real pairs, sharp footage, high-speed footage, photos."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Mapping
from collections.abc import Sequence as ListLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from rirn.data.cache import FrameCache
from rirn.data.images import image_size, list_images, read_image
from rirn.data.layouts import footage_places
from rirn.data.ranges import check_rates
from rirn.data.scenes import Scene, film_scene
from rirn.data.sequences import Sequence, check_alike, check_crop, digest, find_sequences, of_length
from rirn.data.splits import same_split
from rirn.data.synthesis import from_linear, shrink_photo, to_linear
from rirn.errors import RirnError
from rirn.lazy import Later

np = Later("numpy")

KINDS = ("pairs", "sharp", "highspeed", "photos")
Clips: TypeAlias = "tuple[np.ndarray, np.ndarray]"
"""Blurry and sharp, uint8 [T, H, W, 3]."""
Reading: TypeAlias = "Callable[[int, float], Clips]"
"""Reads a clip for a crop and a scale: squares of crop / scale, or as large as the frames allow, but at least the crop."""


@dataclasses.dataclass
class Source:
    """Some of the training clips."""

    path: Path
    """A folder."""
    kind: str = "pairs"
    """``pairs``: sequences of blurry and sharp frames; ``sharp``: folders of frames that the network learns to leave alone;
    ``highspeed``: folders of frames at 120 fps or more, several of which make an exposure; ``photos``: scenes of layers
    cut from photos. From sequences of pairs, the middle two use the sharp halves."""
    share: float = 1.0
    """Weight of the source: its part of the clips is this over the sum of all shares."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Source:
        """Make a source from its settings by name, as in a configuration file.

        Raises:
            RirnError: a setting is missing, unknown or wrong.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in settings if name not in names]
        if unknown or "path" not in settings:
            wrong = f"has the unknown setting {unknown[0]!r:.50}" if unknown else "has no path"
            raise RirnError(
                f"the source {dict(settings)!r:.200} of data.train {wrong}; its settings are {', '.join(names)}"
            )
        try:
            return cls(Path(settings["path"]), **{n: v for n, v in settings.items() if n != "path"})
        except TypeError as error:
            raise RirnError(
                f"the source {dict(settings)!r:.200} of data.train cannot be understood ({error})"
            ) from error

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RirnError(f"kind of a source must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if not 0 < self.share < math.inf:
            raise RirnError(f"share of a source must be positive and finite; got {self.share}")


@dataclasses.dataclass(frozen=True)
class Shutter:
    """Exposures made of frames of high-speed footage; their number and spacing are drawn independently."""

    sharp_rate: float = 0.3
    """Probability of a shutter so short that it sees one frame."""
    windows: tuple[int, int] = (3, 15)
    """Otherwise the least and largest number of frames per exposure; only odd numbers are drawn."""
    strides: tuple[int, int] = (3, 12)
    """Least and largest number of frames from one exposure to the next."""
    changing_rate: float = 0.2
    """Probability that the number is drawn anew for each exposure, up to that of the clip."""

    def __post_init__(self) -> None:
        check_rates("shutter", self, "sharp_rate", "changing_rate")
        for name in ("windows", "strides"):
            first, last = getattr(self, name)
            if not 1 <= first <= last:
                raise RirnError(f"shutter.{name} must be two counts, 1 <= first <= last; got {[first, last]}")
        if self.windows[0] == self.windows[1] and self.windows[0] % 2 == 0:
            raise RirnError(f"shutter.windows must have an odd number between them; got {list(self.windows)}")

    def draw(self, rng: np.random.Generator, frames: int) -> tuple[int, list[int]]:
        """Draw the number of frames from one exposure to the next, and the number in each exposure."""
        stride = int(rng.integers(self.strides[0], self.strides[1] + 1))
        largest = int(rng.integers(self.windows[0] // 2, (self.windows[1] - 1) // 2 + 1))
        largest = 0 if rng.random() < self.sharp_rate else largest
        changing = rng.random() < self.changing_rate
        each = rng.integers(0, largest + 1, frames) if changing else np.full(frames, largest)
        return stride, [2 * int(half) + 1 for half in each]


@dataclasses.dataclass(frozen=True)
class Pairing:
    """What is done to real pairs: less blur for the same motion, and more motion from frame to frame."""

    mix_rate: float = 0.0
    """Probability that the blurry frames of a clip are mixed with their truth, in linear light."""
    mix: tuple[float, float] = (0.2, 0.9)
    """Least and largest share of the blurry frame in that case."""
    skip_rate: float = 0.0
    """Probability that only every second frame is taken, where the sequence is long enough."""

    def __post_init__(self) -> None:
        check_rates("pairing", self, "mix_rate", "skip_rate")
        if not 0 <= self.mix[0] <= self.mix[1] <= 1:
            raise RirnError(f"pairing.mix must be two shares, 0 <= first <= last <= 1; got {list(self.mix)}")

    def draw(self, rng: np.random.Generator) -> tuple[float, int]:
        """Draw the share of the blurry frames, and the step from one frame to the next."""
        mixed = self.mix_rate and rng.random() < self.mix_rate
        share = float(rng.uniform(*self.mix)) if mixed else 1.0
        return share, 2 if self.skip_rate and rng.random() < self.skip_rate else 1


class Supply(Protocol):
    """Clips of one kind."""

    def __len__(self) -> int:
        """How many different clips there are, roughly: what an epoch counts."""
        ...

    def digest(self) -> str:
        """Return a short text that differs between supplies of different files."""
        ...

    def draw(self, rng: np.random.Generator) -> tuple[str, Reading]:
        """Return a name for messages, and a function that reads the clip."""
        ...


def open_source(
    source: Source,
    *,
    frames: int,
    crop: int,
    pairing: Pairing,
    shutter: Shutter,
    scene: Scene,
    split: str | None,
    cache_mib: int,
) -> Supply:
    """Open the clips of a source.

    Raises:
        RirnError: the folder holds nothing of this kind, nothing long enough, or frames smaller than the crop.
    """
    if source.kind == "photos":
        return _Photos(source.path, frames, crop, scene)
    if source.kind == "pairs":
        return _Pairs(find_sequences(source.path, split=split), frames, crop, pairing, cache_mib)
    highspeed = shutter if source.kind == "highspeed" else Shutter(1.0, (1, 1), (1, 2), 0.0)
    return _Footage(_frame_folders(source.path, split), frames, crop, highspeed, cache_mib)


class _Pairs:
    """Runs of frames of sequences, forwards or backwards, each valid start equally likely."""

    def __init__(
        self, sequences: ListLike[Sequence], frames: int, crop: int, pairing: Pairing, cache_mib: int
    ):
        self._sequences = of_length(sequences, frames)
        for sequence in self._sequences:
            check_crop(*image_size(sequence.blurry[0]), crop, sequence.blurry[0])
        self._frames, self._pairing = frames, pairing
        self._ends = list(itertools.accumulate(len(s) - frames + 1 for s in self._sequences))
        paths = (path for s in self._sequences for path in (*s.blurry, *s.sharp))
        self._cache = FrameCache(paths, cache_mib << 20)

    def __len__(self) -> int:
        return self._ends[-1]

    def digest(self) -> str:
        return digest((s.name, len(s)) for s in self._sequences)

    def draw(self, rng: np.random.Generator) -> tuple[str, Reading]:
        start = int(rng.integers(self._ends[-1]))
        index = bisect.bisect_right(self._ends, start)
        sequence = self._sequences[index]
        start -= self._ends[index - 1] if index else 0
        backwards = rng.random() < 0.5
        share, step = self._pairing.draw(rng)
        if step * (self._frames - 1) >= len(sequence):
            step = 1
        start = min(start, len(sequence) - 1 - step * (self._frames - 1))
        order = np.arange(start, len(sequence), step)[: self._frames][:: -1 if backwards else 1]

        def read(crop: int, scale: float) -> Clips:
            paths = [[half[i] for i in order] for half in (sequence.blurry, sequence.sharp)]
            halves = [[self._cache.read(path) for path in half] for half in paths]
            check_alike(itertools.chain(*paths), itertools.chain(*halves))
            window = _window(rng, halves[0][0], crop, scale, sequence.blurry[start])
            blurry, sharp = (_cut(half, window) for half in halves)
            return blurry if share == 1 else mixed(blurry, sharp, share), sharp

        return f"{sequence.name}/{sequence.blurry[start].stem}", read


class _Footage:
    """Exposures of sharp frames; a clip longer than its footage plays it back and forth."""

    def __init__(self, folders: list[list[Path]], frames: int, crop: int, shutter: Shutter, cache_mib: int):
        self._folders = folders
        for files in folders:
            check_crop(*image_size(files[0]), crop, files[0])
        self._frames, self._shutter = frames, shutter
        self._ends = list(itertools.accumulate(len(files) for files in self._folders))
        self._cache = FrameCache((file for files in self._folders for file in files), cache_mib << 20)

    def __len__(self) -> int:
        return self._ends[-1]

    def digest(self) -> str:
        return digest((*files[0].parent.parts[-2:], len(files)) for files in self._folders)

    def draw(self, rng: np.random.Generator) -> tuple[str, Reading]:
        # The square root is a compromise between folders and frames: long videos do not drown the short ones.
        weights = np.sqrt([len(files) for files in self._folders])
        files = self._folders[int(rng.choice(len(self._folders), p=weights / weights.sum()))]
        stride, windows = self._shutter.draw(rng, self._frames)
        start, step = int(rng.integers(len(files))), stride if rng.random() < 0.5 else -stride
        centres = [start + step * i for i in range(self._frames)]

        def read(crop: int, scale: float) -> Clips:
            wanted = {i for pair in zip(centres, windows, strict=True) for i in around(*pair)}
            paths = {i: files[to_and_fro(i, len(files))] for i in sorted(wanted)}
            frames = {i: self._cache.read(path) for i, path in paths.items()}
            check_alike(paths.values(), frames.values())
            window = _window(rng, frames[start], crop, scale, files[start])
            sharp = _cut([frames[centre] for centre in centres], window)
            blurry = [
                still if count == 1 else mean_light(_cut([frames[i] for i in around(centre, count)], window))
                for still, centre, count in zip(sharp, centres, windows, strict=True)
            ]
            return np.stack(blurry), sharp

        return f"{files[start].parent}/{files[start].stem}", read


class _Photos:
    """Scenes of layers; see :mod:`rirn.data.scenes`."""

    SIDE = 640
    """Approximate least side of a photo in memory; large photos are shrunk, or a clip would see only a few smooth pixels."""

    def __init__(self, root: Path, frames: int, crop: int, scene: Scene):
        if not root.is_dir():
            raise RirnError(f"there is no folder {root}")
        self._files = list_images(root)
        if not self._files:
            raise RirnError(f"{root} holds no photo")
        for file in self._files:
            width, height = image_size(file)
            factor = self._factor(width, height)
            check_crop(width // factor, height // factor, crop, file)
        self._frames, self._scene = frames, scene
        self._read = functools.lru_cache(maxsize=64)(self._shrunk)

    def __len__(self) -> int:
        return len(self._files)

    def digest(self) -> str:
        return digest(file.name for file in self._files)

    def draw(self, rng: np.random.Generator) -> tuple[str, Reading]:
        numbers = [int(rng.integers(len(self._files))) for _ in range(3)]

        def read(crop: int, scale: float) -> Clips:
            photos = [self._read(number) for number in numbers]
            sides = [
                _side(photo, crop, scale, self._files[n]) for n, photo in zip(numbers, photos, strict=True)
            ]
            side = min(sides)
            return film_scene(photos, rng, size=(side, side), frames=self._frames, scene=self._scene)

        return str(self._files[numbers[0]]), read

    def _shrunk(self, number: int) -> np.ndarray:
        photo = read_image(self._files[number])
        return shrink_photo(photo, self._factor(*photo.shape[:2]))

    def _factor(self, *sides: int) -> int:
        return max(1, round(min(sides) / self.SIDE))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_read"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._read = functools.lru_cache(maxsize=64)(self._shrunk)


def _frame_folders(root: Path, split: str | None) -> list[list[Path]]:
    if not root.is_dir():
        raise RirnError(f"there is no folder {root}")
    places = footage_places(root)
    mine = [place for place in places if split is None or same_split(place.layout, place.split, split)]
    if places and not mine:
        there = ", ".join(sorted({place.split or "none" for place in places}))
        raise RirnError(
            f"{root} has no folder of frames of the split {split!r}; those in it belong to {there}"
        )
    found = [files for place in mine if (files := list_images(place.sharp))]
    if not found:
        raise RirnError(
            f"{root} holds no folder of frames; give PNG or JPEG images, one folder for each video"
        )
    return found


def _side(frame: np.ndarray, crop: int, scale: float, path: Path) -> int:
    height, width = frame.shape[:2]
    check_crop(width, height, crop, path)
    return min(math.ceil(crop / scale), height, width)


def _window(
    rng: np.random.Generator, frame: np.ndarray, crop: int, scale: float, path: Path
) -> tuple[int, int, int]:
    side = _side(frame, crop, scale, path)
    y, x = (int(rng.integers(length - side + 1)) for length in frame.shape[:2])
    return y, x, side


def _cut(frames: ListLike[np.ndarray], window: tuple[int, int, int]) -> np.ndarray:
    y, x, side = window
    return np.stack([frame[y : y + side, x : x + side] for frame in frames])


def around(centre: int, count: int) -> range:
    """The frames of an exposure."""
    return range(centre - count // 2, centre + count // 2 + 1)


def to_and_fro(index: int, length: int) -> int:
    """0, 1, ..., length - 1, length - 2, ..., 1, 0, 1, ... for all whole numbers."""
    if length == 1:
        return 0
    index %= 2 * (length - 1)
    return min(index, 2 * (length - 1) - index)


def mixed(blurry: np.ndarray, sharp: np.ndarray, share: float) -> np.ndarray:
    """uint8 [T, H, W, 3] each -> this share of the light of the blurry frames, the rest from the sharp ones."""
    lights = (share * to_linear(b) + (1 - share) * to_linear(s) for b, s in zip(blurry, sharp, strict=True))
    return np.stack([from_linear(light) for light in lights])


def mean_light(frames: np.ndarray) -> np.ndarray:
    """uint8 [n, H, W, 3] -> the mean of their light, uint8 [H, W, 3]."""
    return from_linear(sum(to_linear(frame) for frame in frames) / len(frames))
