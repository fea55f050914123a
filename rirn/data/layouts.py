"""The ways in which data sets lay out their folders: where sequences are, and which split they belong to."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rirn.data.images import list_images
from rirn.data.splits import official_split

BLURRY_FOLDERS = ("blur_gamma", "blur", "Blur", "input", "lq")
"""Names of the folder of blurry frames; the first that exists counts: GOPRO asks for blur_gamma where it has both."""
SHARP_FOLDERS = ("sharp", "Sharp", "GT", "gt", "target")
SPLIT_FOLDERS = ("train", "test", "val", "valid", "validation")

# REDS offers further kinds of degradation, which are not motion blur alone, and DVD videos without truth.
_IGNORED = re.compile(r".*_bicubic|.*blur_comp|qualitative_datasets|\..*")
_GOPRO_NAME = re.compile(r"GOPR\d{4}_\d{2}_\d{2}")
_REDS_TRAIN = 240
_REDS_FOLDER = re.compile(r"(train|val|test)_(blur|sharp)")
_BSD_FOLDER = re.compile(r"BSD_(\d+ms\d+ms)")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the frames of one sequence are; one of the two folders may be missing."""

    name: str
    """Path below the root of the data set."""
    blurry: Path | None
    sharp: Path | None
    layout: str = "plain"
    """GOPRO, REDS, DVD, BSD with its exposure times (``BSD 1ms8ms``), or plain."""
    split: str | None = None
    """From the official list if the name is on it, else from the folder ``train``, ``val`` or ``test`` above it."""

    @property
    def official_name(self) -> str:
        """The name of the sequence in the lists of the data set."""
        name = self.name.rsplit("/", 1)[-1]
        return f"{int(name) - _REDS_TRAIN:03d}" if self.layout == "REDS" and _is_moved(name) else name


def find_places(root: Path, blur: str | None = None) -> list[Place]:
    """Find all sequences below a folder, complete or not, ordered by path.

    A folder that holds ``sharp`` (``Sharp``, ``GT``, ``gt``, ``target``) beside ``blur_gamma`` or ``blur`` (``Blur``, ``input``,
    ``lq``) is a sequence; its frames are there or, as in BSD, one folder deeper in ``RGB``. Where these hold folders of frames
    instead, each is a sequence, paired by name; so are those of REDS, whose folders are ``train_blur`` and ``train_sharp``.
    Symbolic links are followed.

    Args:
        root: any folder: a data set, one of its splits, or a single sequence.
        blur: name of the folder of blurry frames, for sequences that have several.
    """
    names = BLURRY_FOLDERS if blur is None else (blur,)
    places = []
    for folder, children in _walk(root):
        blurry, sharp = (
            next((_frames_folder(folder / n) for n in kind if n in children), None)
            for kind in (names, SHARP_FOLDERS)
        )
        if blurry is not None and sharp is not None:
            within = [] if list_images(blurry) or list_images(sharp) else _pairs(blurry, sharp)
            places += [_place(root, folder / name, *halves) for name, *halves in within]
            if not within:
                places.append(_place(root, folder, blurry, sharp))
            # Frames lie here, thousands of files without another sequence among them.
            children -= {*BLURRY_FOLDERS, *SHARP_FOLDERS, *names}
        elif any(list_images(half) for half in (blurry, sharp) if half is not None):
            places.append(_place(root, folder, blurry, sharp))
        for split in sorted({m[1] for c in children if (m := _REDS_FOLDER.fullmatch(c))}):
            places += _reds(root, folder, split)
            children -= {f"{split}_blur", f"{split}_sharp"}
    return sorted(places, key=lambda place: place.name)


def find_footage(root: Path) -> list[Path]:
    """Find all folders of frames at or below a folder, ordered by path; of sequences of pairs, the sharp halves. Symbolic
    links are followed."""
    return [place.sharp for place in footage_places(root)]


def footage_places(root: Path) -> list[Place]:
    """As :func:`find_footage`, each folder as the ``sharp`` one of its sequence."""
    places = find_places(root)
    halves = {half for place in places for half in (place.blurry, place.sharp)}
    folders = [root, *(folder / child for folder, children in _walk(root) for child in children)]
    plain = [
        _place(root, f, None, f)
        for f in folders
        if f not in halves and f.parent not in halves and not _is_blurry(root, f) and list_images(f)
    ]
    found = {place.sharp: place for place in [*plain, *places] if place.sharp is not None}
    return [found[folder] for folder in sorted(found)]


def _is_blurry(root: Path, folder: Path) -> bool:
    """Whether a folder is, or lies in, a blurry half of a sequence: GOPRO has two, and BSD raw frames in its."""
    above = [folder, *folder.parents]
    return any(
        f.name in BLURRY_FOLDERS and any((f.parent / name).is_dir() for name in SHARP_FOLDERS)
        for f in above[: above.index(root)]
    )


def _walk(root: Path) -> Iterator[tuple[Path, set[str]]]:
    """Folders from the top with the names of those inside, from which the caller removes what need not be walked."""
    seen = set()
    for folder, children, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        wanted = {c for c in children if not _IGNORED.fullmatch(c)} if real not in seen else set()
        seen.add(real)  # a link may lead back up
        if wanted:
            yield Path(folder), wanted
        children[:] = sorted(wanted)


def _frames_folder(folder: Path) -> Path:
    return folder / "RGB" if (folder / "RGB").is_dir() else folder


def _place(root: Path, folder: Path, blurry: Path | None, sharp: Path | None) -> Place:
    parts = _parts(root, folder)
    exposure = next((m[1] for part in reversed(parts) if (m := _BSD_FOLDER.fullmatch(part))), None)
    names = {path.name for path in (blurry, sharp) if path is not None}
    if _GOPRO_NAME.fullmatch(parts[-1]):
        layout = "GOPRO"
    elif names <= {"input", "GT"}:
        layout = "DVD"
    elif exposure is not None:
        layout = f"BSD {exposure}"
    else:
        layout = "plain"
    above = next((part for part in reversed(parts[:-1]) if part in SPLIT_FOLDERS), None)
    split = official_split(layout, parts[-1]) or above
    if layout == "DVD" and split is None and "quantitative_datasets" in parts:
        split = "train"  # test and training videos lie side by side there
    return Place(_name(root, folder), blurry, sharp, layout, split)


def _reds(root: Path, folder: Path, split: str) -> list[Place]:
    """Sequences of ``train_blur/NNN`` and ``train_sharp/NNN``."""
    places = []
    for name, blurry, sharp in _pairs(folder / f"{split}_blur", folder / f"{split}_sharp"):
        moved = split == "train" and _is_moved(name)
        places.append(Place(_name(root, folder / name), blurry, sharp, "REDS", "val" if moved else split))
    return places


def _pairs(blurry: Path, sharp: Path) -> list[tuple[str, Path | None, Path | None]]:
    """Names of the subfolders of two folders, and the subfolders of each name; one may be missing."""
    halves = [{p.name: p for p in half.glob("*") if p.is_dir()} for half in (blurry, sharp)]
    return [(name, halves[0].get(name), halves[1].get(name)) for name in sorted(halves[0] | halves[1])]


def _is_moved(name: str) -> bool:
    """Whether a REDS sequence is a validation one that some code numbers after the training ones, as 240 to 269."""
    return name.isdecimal() and int(name) >= _REDS_TRAIN  # a superscript is a digit, but no number


def _parts(root: Path, folder: Path) -> tuple[str, ...]:
    """Names that identify a folder: those below the root, the root's own and its parent's."""
    return root.resolve().parts[-2:] + folder.relative_to(root).parts


def _name(root: Path, folder: Path) -> str:
    return (root.resolve().name or str(root)) if folder == root else folder.relative_to(root).as_posix()
