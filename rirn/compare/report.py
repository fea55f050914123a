"""Write an HTML page that compares two videos, with a curve of their quality."""

from __future__ import annotations

import base64
import html
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import TextIO

import numpy as np
from PIL import Image

from rirn.compare.maps import GateMaps, palette
from rirn.errors import RirnError
from rirn.evaluation.metrics import laplacian_variance, psnr, ssim
from rirn.video.files import part_name, write_failures
from rirn.video.frames import Frame, VideoInfo
from rirn.video.images import to_8_bits
from rirn.video.reader import Reader

# Browsers give a page a few gigabytes; the text of the frames is only a part of what they keep.
MAX_BYTES = 500_000_000


def write_report(
    before: str | os.PathLike,
    after: str | os.PathLike,
    target: str | os.PathLike,
    truth: str | os.PathLike | None = None,
    *,
    rate: Fraction | int = 25,
    skip: int = 0,
    frames: int | None = None,
    quality: int = 92,
    maps: GateMaps | None = None,
) -> int:
    """Write a page that needs neither network nor other files, and return the number of frames in it.

    Every frame is embedded in the page as a JPEG with full chroma resolution, not as part of a video: a browser
    then shows exactly the requested frame of both, whatever codecs it has, which seeking in two videos does not
    guarantee. The curves are computed from the frames themselves, not from the JPEGs.

    With ``truth``, the curves are PSNR and SSIM against it, else the variance of the Laplacian, a measure of
    sharpness that noise also raises. Frames are rotated as a player rotates them, and played at the times of
    ``before``.

    Args:
        before: video file or folder of images.
        after: the same, with the same size and number of frames.
        target: path of the page, ending in .html; an existing file is replaced once the page is complete.
        truth: sharp frames for both, with the same size and number.
        rate: frames per second of a folder of images.
        skip: number of frames to leave out at the start.
        frames: maximum number of frames to show; None for all.
        quality: JPEG quality, 1 to 100.
        maps: a new one; its model runs on ``before`` from the first frame shown, and the page shows its gates.

    Raises:
        RirnError: something cannot be read or written, sizes or lengths differ, the page becomes too large for
            browsers, or SSIM is needed and scikit-image is not installed.
    """
    sources = [before, after] if truth is None else [before, after, truth]
    path = Path(os.path.realpath(target))
    _check(sources, path, skip=skip, frames=frames, quality=quality)
    part = part_name(path)
    with ExitStack() as stack:
        readers = [stack.enter_context(_open(source, rate)) for source in sources]
        size = _shown_size(sources, readers)
        try:
            with write_failures(path), open(part, "x", encoding="utf-8", newline="\n") as out:
                shown = _in_step(sources, readers, skip, frames)
                count = _write_page(out, sources, readers, shown, size, skip=skip, quality=quality, maps=maps)
            with write_failures(path):
                os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    return count


def _write_page(
    out: TextIO,
    sources: Sequence[str | os.PathLike],
    readers: Sequence[Reader],
    frames: Iterator[list[Frame]],
    size: tuple[int, int],
    *,
    skip: int,
    quality: int,
    maps: GateMaps | None,
) -> int:
    """Write the whole page, and return the number of frames in it."""
    page = files("rirn.compare").joinpath("report.html").read_text(encoding="utf-8")
    head, _, tail = page.partition("<!-- frames -->\n")
    names, truth = _short_names(sources[:2]), sources[2] if len(sources) > 2 else None
    measures = [Measure("Sharpness", "variance of the Laplacian", 1)]
    if truth is not None:
        measures = [Measure("PSNR", "dB", 2), Measure("SSIM", "", 4)]
    times: list[float] = []
    out.write(head.replace("{{title}}", html.escape(f"{names[0]} and {names[1]}")))
    for shown in frames:
        number = len(times)
        times.append(float(shown[0].pts * shown[0].time_base))
        pictures = [_upright(f, r) for f, r in zip(shown, readers, strict=True)]
        for side, picture in zip("ab", pictures, strict=False):
            out.write(f'<script type="image/jpeg" id="{side}{number}">')
            out.write(f"{_jpeg(picture, quality)}</script>\n")
        if truth is None:
            measures[0].add(*(laplacian_variance(p) for p in pictures))
        else:
            measures[0].add(*(psnr(p, pictures[2]) for p in pictures[:2]))
            measures[1].add(*(ssim(p, pictures[2]) for p in pictures[:2]))
        if maps is not None:
            maps.add(shown[0])
        _check_length(out, number + 1)
    if not times:
        raise RirnError(f"{sources[0]} has no more than {skip} frames; lower --skip")
    facts = {
        "names": names,
        "truth": None if truth is None else Path(truth).name,
        "width": size[0],
        "height": size[1],
        "first": skip,
        "times": [round(t - times[0], 6) for t in times],
        "rate": float(readers[0].info.rate),
        "measures": [m.facts() for m in measures],
    }
    if maps is not None:
        facts["maps"] = _write_maps(out, maps, readers[0].info)
    # A name may hold "</script>".
    text = json.dumps(facts, allow_nan=False).replace("<", "\\u003c")
    out.write(f'<script type="application/json" id="facts">{text}</script>\n{tail}')
    return len(times)


def _write_maps(out: TextIO, maps: GateMaps, info: VideoInfo) -> dict[str, object]:
    """Add the maps of all frames to the page, and return the facts about them."""
    maps.end()
    for number in range(len(maps)):
        for which, name in enumerate("pc"):
            out.write(
                f'<script type="image/png" id="{name}{number}">{maps.png(number, which, info)}</script>\n'
            )
        _check_length(out, number + 1)
    curve = Measure("Gates", "mean weights", 3, maps.names)
    for number in range(len(maps)):
        curve.add(*maps.means(number))
    colours = [f"rgb({r} {g} {b})" for r, g, b in palette()[::15].tolist()]
    return {
        "model": maps.model_name,
        "names": maps.names,
        "scale": [round(end, 4) for end in maps.scale()],
        "colours": colours,
        "measure": curve.facts(),
    }


def _check_length(out: TextIO, frames: int) -> None:
    """Refuse a page that is too large for browsers."""
    if out.tell() > MAX_BYTES:
        raise RirnError(
            f"The page is larger than {MAX_BYTES // 1_000_000} MB after {frames} frames, too much for "
            "a browser; show a part with --skip and --frames, or lower --quality"
        )


class Measure:
    """A value for each frame of both videos, or of two other things with ``labels``; ``digits`` is the number of decimals."""

    def __init__(self, name: str, unit: str, digits: int, labels: tuple[str, str] | None = None):
        self.name, self.unit, self.digits, self.labels = name, unit, digits, labels
        self.values: tuple[list[float], list[float]] = ([], [])

    def add(self, before: float, after: float) -> None:
        for values, value in zip(self.values, (before, after), strict=True):
            values.append(value)

    def facts(self) -> dict[str, object]:
        """Return the facts for JSON, which has no infinity: null is the PSNR of equal frames."""
        values = [[round(v, 6) if math.isfinite(v) else None for v in side] for side in self.values]
        facts = {"name": self.name, "unit": self.unit, "digits": self.digits, "values": values}
        return facts if self.labels is None else facts | {"labels": self.labels}


def _check(
    sources: Sequence[str | os.PathLike], path: Path, *, skip: int, frames: int | None, quality: int
) -> None:
    """Refuse what can be refused before anything is opened."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise RirnError(f"{path.name} is no name for a page; end it in .html")
    if not path.parent.is_dir():
        raise RirnError(f"The folder {path.parent} does not exist; create it or choose another place")
    if path.exists() and not path.is_file():
        raise RirnError(f"{path} exists and is no regular file; choose another name")
    if any(Path(os.path.realpath(source)) == path for source in sources):
        raise RirnError(f"The page {path} is one of the inputs; give another name")
    if skip < 0:
        raise RirnError(f"--skip must be at least 0 frames, not {skip}")
    if frames is not None and frames < 1:
        raise RirnError(f"--frames must be at least 1, not {frames}")
    if not 1 <= quality <= 100:
        raise RirnError(f"--quality must be from 1 to 100, not {quality}")


def _open(source: str | os.PathLike, rate: Fraction | int) -> Reader:
    reader = Reader(source, rate=rate)
    if not reader.can_rewind:
        reader.close()
        raise RirnError(f"{source} is a pipe or camera; a comparison takes video files and folders of images")
    return reader


def _short_names(sources: Sequence[str | os.PathLike]) -> list[str]:
    """Last parts of the paths, with their folders if the names are equal."""
    paths = [Path(os.path.abspath(source)) for source in sources]
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else ["/".join(path.parts[-2:]) for path in paths]


def _shown_size(sources: Sequence[str | os.PathLike], readers: Sequence[Reader]) -> tuple[int, int]:
    """The (width, height) that all have in common when upright."""
    sizes = []
    for reader in readers:
        sizes.append(reader.info.shown_size)
    for source, size in zip(sources, sizes, strict=True):
        if size != sizes[0]:
            raise RirnError(
                f"{sources[0]} is {sizes[0][0]}x{sizes[0][1]} and {source} is {size[0]}x{size[1]}; "
                "give videos of one size"
            )
    return sizes[0]


def _in_step(
    sources: Sequence[str | os.PathLike], readers: Sequence[Reader], skip: int, frames: int | None
) -> Iterator[list[Frame]]:
    """Yield the frames of all readers side by side."""
    streams = [reader.frames(skip) for reader in readers]
    count = 0
    while frames is None or count < frames:
        row = [next(stream, None) for stream in streams]
        ended = [source for source, frame in zip(sources, row, strict=True) if frame is None]
        if len(ended) == len(row):
            return
        if ended:
            longer = next(source for source, frame in zip(sources, row, strict=True) if frame is not None)
            raise RirnError(
                f"{ended[0]} ends after {skip + count} frames and {longer} does not; give videos of one length, "
                "or compare the common part with --frames"
            )
        yield row
        count += 1


def _upright(frame: Frame, reader: Reader) -> np.ndarray:
    """uint8 [H, W, 3] as a player shows it."""
    return np.ascontiguousarray(reader.info.upright(to_8_bits(frame.rgb)))


def _jpeg(picture: np.ndarray, quality: int) -> str:
    """uint8 [H, W, 3] -> JPEG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
