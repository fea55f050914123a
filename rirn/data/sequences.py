"""Sequences: folders of blurry and sharp frames, paired."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from pathlib import Path

from rirn.data.images import list_images, write_png
from rirn.data.layouts import Place, find_places
from rirn.data.splits import same_split
from rirn.errors import RirnError
from rirn.lazy import Later

np = Later("numpy")


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One video: as many blurry as sharp frames, paired by the stem of the file name."""

    name: str
    blurry: tuple[Path, ...]
    sharp: tuple[Path, ...]
    layout: str = "plain"
    split: str | None = None

    def __len__(self) -> int:
        return len(self.blurry)


def find_sequences(root: str | Path, *, split: str | None = None, blur: str | None = None) -> list[Sequence]:
    """Find all sequences below a folder in the layout of GOPRO, REDS, DVD or BSD, or with ``blur/`` beside ``sharp/``.

    docs/data.md shows the layouts. Folders that lack a blurry or a sharp half are left out.

    Args:
        root: a data set, a part of it, or one sequence.
        split: only sequences of ``train``, ``test`` or ``val``: by the official list if there is one, else by the folder of
            that name. For REDS, ``test`` is the validation set, since its test set has no public truth.
        blur: name of the folder of blurry frames; by default ``blur_gamma`` if present, else ``blur``.

    Raises:
        RirnError: the folder does not exist, it or the split has no sequence, or a frame has no partner.
    """
    root = Path(root)
    if not root.is_dir():
        raise RirnError(f"there is no folder {root}")
    places = [p for p in find_places(root, blur) if p.blurry is not None and p.sharp is not None]
    if not places:
        wanted = "blur_gamma/ or blur/" if blur is None else f"{blur}/"
        raise RirnError(f"{root} has no sequence: no folder in it holds {wanted} beside sharp/")
    if split is not None:
        there = sorted({p.split or "none" for p in places})
        places = [p for p in places if same_split(p.layout, p.split, split)]
        if not places:
            raise RirnError(
                f"{root} has no sequence of the split {split!r}; those in it belong to {', '.join(there)}"
            )
    return [_sequence(place) for place in places]


def _sequence(place: Place) -> Sequence:
    pairs, problems = pair_frames(place.blurry, place.sharp)
    if problems:
        more = f" ({len(problems)} such frames; `rirn data check` names all)" if len(problems) > 1 else ""
        raise RirnError(f"{problems[0]}{more}; add or remove files until each frame has one partner")
    if not pairs:
        raise RirnError(f"{place.blurry} and {place.sharp} hold no images")
    return Sequence(place.name, *zip(*pairs, strict=True), place.layout, place.split)


def pair_frames(blurry: Path, sharp: Path) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Return the pairs of files with equal stems, ordered by number, and a line on each file without one partner."""
    halves, problems = [], []
    for folder in (blurry, sharp):
        half: dict[str, Path] = {}
        for file in list_images(folder):
            if half.setdefault(file.stem, file) is not file:
                problems.append(f"{file} is one frame with {half[file.stem].name}")
        halves.append(half)
    for half, other, folder in ((halves[0], halves[1], sharp), (halves[1], halves[0], blurry)):
        problems += [f"{half[stem]} has no partner in {folder}" for stem in half if stem not in other]
    return [(file, halves[1][stem]) for stem, file in halves[0].items() if stem in halves[1]], problems


def of_length(sequences: ListLike[Sequence], frames: int) -> list[Sequence]:
    """Return the sequences that are long enough for a clip.

    Raises:
        RirnError: there are none.
    """
    found = [sequence for sequence in sequences if len(sequence) >= frames]
    if not found:
        longest = max(map(len, sequences), default=0)
        raise RirnError(
            f"no sequence has the {frames} frames of a clip, the longest has {longest}; lower data.frames"
        )
    return found


def numbered(name: str, seen: Counter[str]) -> str:
    """Return the name, with a number behind it if it was seen before."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name} ({seen[name]})"


def digest(names: Iterable[object]) -> str:
    """A short text that differs between lists of names."""
    return hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()[:16]


def check_crop(width: int, height: int, crop: int, path: Path) -> None:
    """
    Raises:
        RirnError: a frame is smaller than the crop.
    """
    if min(width, height) < crop:
        raise RirnError(
            f"{path} is {width}x{height}, smaller than the crop of {crop} pixels; lower data.crop or remove it"
        )


def check_alike(paths: Iterable[Path], frames: Iterable[np.ndarray]) -> None:
    """
    Raises:
        RirnError: the frames of a sequence, [H, W, 3] each, are not of one size.
    """
    size = None
    for path, frame in zip(paths, frames, strict=True):
        size = size or frame.shape
        if frame.shape != size:
            raise RirnError(
                f"{path} is {frame.shape[1]}x{frame.shape[0]}; frames of a sequence must be of one size, here "
                f"{size[1]}x{size[0]}"
            )


def write_sequence(folder: str | Path, pairs) -> int:
    """Write pairs (blurry, sharp) of uint8 [H, W, 3] frames as ``blur/NNNNNN.png`` and ``sharp/NNNNNN.png``; return the count."""
    folder = Path(folder)
    for name in ("blur", "sharp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    count = 0
    for count, (blurry, sharp) in enumerate(pairs, 1):
        write_png(folder / "blur" / f"{count - 1:06d}.png", blurry)
        write_png(folder / "sharp" / f"{count - 1:06d}.png", sharp)
    return count
