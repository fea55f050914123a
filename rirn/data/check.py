"""What a data set contains, what of its official splits is missing, and what is broken."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from rirn.data.images import image_size, list_images, read_image
from rirn.data.layouts import SPLIT_FOLDERS, Place, find_places
from rirn.data.parallel import map_ahead
from rirn.data.sequences import pair_frames
from rirn.data.splits import OFFICIAL, same_split
from rirn.errors import RirnError

# Their frames count from 0, so those missing at the ends can be named, too.
_COUNT_FROM_ZERO = ("REDS", "BSD")


@dataclasses.dataclass
class Checked:
    """Findings about one sequence."""

    place: Place
    pairs: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    """(width, height) in pixels, the most frequent first; a whole sequence has one."""
    missing: tuple[int, ...] = ()
    """Numbers of frames in gaps, or known to have been published, that neither half has."""
    problems: tuple[str, ...] = ()
    """A line on each frame that is unreadable, has no partner or differs in size."""


@dataclasses.dataclass
class Report:
    """Result of :func:`check`."""

    root: Path
    sequences: list[Checked]

    @property
    def problems(self) -> list[str]:
        return [line for sequence in self.sequences for line in sequence.problems]


def check(
    root: str | Path, *, blur: str | None = None, headers_only: bool = False, workers: int = 2
) -> Report:
    """Check every frame below a folder. An incomplete copy of a data set is not a problem, a mismatched pair is.

    Args:
        root: a data set, a part of it, or one sequence.
        blur: name of the folder of blurry frames where a sequence has several, as in :func:`find_sequences`.
        headers_only: do not decode the images: quicker, but truncated files pass.
        workers: threads that decode.

    Raises:
        RirnError: there is no such folder, or no sequence in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise RirnError(f"there is no folder {root}")
    places = find_places(root, blur)
    if not places:
        raise RirnError(
            f"{root} has no sequence: no folder in it holds {blur or 'blur_gamma/ or blur/'} or sharp/"
        )
    return Report(
        root, [_check_place(p, headers_only, workers) for p in tqdm(places, unit="sequence", disable=None)]
    )


def _check_place(place: Place, headers_only: bool, workers: int) -> Checked:
    if place.blurry is None or place.sharp is None:
        return Checked(place)
    pairs, problems = pair_frames(place.blurry, place.sharp)
    files = [file for pair in pairs for file in pair]
    sizes = list(map_ahead(_header_size if headers_only else _decoded_size, files, workers))
    problems += [size for size in sizes if isinstance(size, str)]
    counts = Counter(size for size in sizes if not isinstance(size, str)).most_common()
    for file, size in zip(files, sizes, strict=True):
        if not isinstance(size, str) and size != counts[0][0]:
            problems.append(f"{file} is {_by(size)}, most frames of the sequence are {_by(counts[0][0])}")
    if not pairs and not problems:
        problems.append(f"{place.blurry} and {place.sharp} hold no images")
    return Checked(place, len(pairs), tuple(size for size, _ in counts), _missing(place), tuple(problems))


def _header_size(file: Path) -> tuple[int, int] | str:
    try:
        return image_size(file)
    except RirnError as error:
        return str(error)


def _decoded_size(file: Path) -> tuple[int, int] | str:
    try:
        height, width, _ = read_image(file).shape
    except RirnError as error:
        return str(error)
    return width, height


def _missing(place: Place) -> tuple[int, ...]:
    files = [*list_images(place.blurry), *list_images(place.sharp)]
    numbers = {int(m[1]) for file in files if (m := re.search(r"(\d+)$", file.stem))}
    if not numbers:
        return ()
    first, end = min(numbers), max(numbers) + 1
    if place.layout.startswith(_COUNT_FROM_ZERO):
        first, end = 0, max(end, _official_length(place) or 0)
    # Names such as time stamps do not count frames.
    return (
        tuple(n for n in range(first, end) if n not in numbers)
        if end - first < 10 * len(numbers) + 10
        else ()
    )


def _official_length(place: Place) -> int | None:
    official = OFFICIAL.get(place.layout, {}).get(place.split)
    return official.length(place.official_name) if official else None


def format_report(report: Report) -> str:
    """Format the report: a line per sequence, what this copy lacks of the official splits, what is broken."""
    width = max(len("sequence"), *(len(s.place.name) for s in report.sequences))
    lines = [f"{'sequence':{width}s} layout      split   pairs  size"]
    for s in report.sequences:
        if s.place.blurry is None or s.place.sharp is None:
            half, other = ("sharp", "blurry") if s.place.blurry is None else ("blurry", "sharp")
            remark = f"  only {half} frames, left out: no folder of {other} ones"
        else:
            remark = f"  {_remark(s)}" if _remark(s) else ""
        sizes = ", ".join(_by(size) for size in s.sizes) or "-"
        lines.append(
            f"{s.place.name:{width}s} {s.place.layout:11s} {s.place.split or '-':6s} {s.pairs:6d}  {sizes:9s}{remark}".rstrip()
        )
    whole = [s for s in report.sequences if s.place.blurry is not None and s.place.sharp is not None]
    for layout in sorted({s.place.layout for s in whole}):
        lines += ["", *_splits(layout, [s for s in whole if s.place.layout == layout])]
    if report.problems:
        lines += ["", "broken:", *(f"  {line}" for line in report.problems)]
    return "\n".join(lines)


def _remark(sequence: Checked) -> str:
    official = _official_length(sequence.place)
    remarks = []
    if sequence.missing:
        remarks.append(f"missing frames {_runs(sequence.missing)}")
    if official is not None and sequence.pairs != official:
        remarks.append(f"{official} pairs in the official split")
    above = [part for part in sequence.place.name.split("/")[:-1] if part in SPLIT_FOLDERS]
    if above and not same_split(sequence.place.layout, sequence.place.split, above[-1]):
        remarks.append(f"lies under {above[-1]}/, is of the official split {sequence.place.split}")
    if sequence.problems:
        remarks.append(f"{len(sequence.problems)} broken, see below")
    return "; ".join(remarks)


def _splits(layout: str, sequences: Sequence[Checked]) -> list[str]:
    """Lines on what each split has, and by name what it lacks."""
    lines = []
    official = OFFICIAL.get(layout, {})
    for split in [*official, *sorted({str(s.place.split) for s in sequences} - set(official))]:
        ours = [s for s in sequences if str(s.place.split) == split]
        pairs = sum(s.pairs for s in ours)
        label = f"{layout}, no split" if split == "None" else f"{layout} {split}"
        if split not in official:
            lines.append(f"{label}: {len(ours)} sequences, {pairs} pairs")
            continue
        published = official[split]
        lines.append(
            f"{label}: {len(ours)} of {published.sequences} sequences, {pairs} of {published.frames} pairs"
        )
        there = {s.place.official_name for s in ours}
        absent = [(i, name) for i, name in enumerate(published.lengths) if name not in there]
        if absent:
            lines.append(f"  not here: {_runs(*zip(*absent, strict=True))}")
    return lines


def _runs(numbers: Sequence[int], names: Sequence[str] | None = None) -> str:
    """Ascending numbers by their names, consecutive ones as first and last: ``3, 5 to 9``."""
    runs = []
    steps = zip(numbers, names or map(str, numbers), strict=True)
    for _, group in itertools.groupby(enumerate(steps), lambda item: item[1][0] - item[0]):
        run = [name for _, (_, name) in group]
        runs += [f"{run[0]} to {run[-1]}"] if len(run) > 2 else run
    return ", ".join(runs)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
