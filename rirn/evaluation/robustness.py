"""Scores on what users film: sharp, compressed, noisy, smaller and static versions of any sequence."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListLike
from pathlib import Path

import numpy as np
import torch

from rirn.data.camera import add_noise, defocus, resize, through_h264
from rirn.data.images import list_images, read_image
from rirn.data.layouts import footage_places
from rirn.data.parallel import map_ahead
from rirn.data.scenes import Scene, film_scene
from rirn.data.sequences import Sequence, check_alike, find_sequences, numbered
from rirn.data.sources import mixed
from rirn.data.synthesis import average_frames
from rirn.errors import RirnError
from rirn.evaluation.metrics import ssim, to_uint8
from rirn.models.deblurrer import VideoDeblurrer

CEILING = 45.0
"""Above this PSNR, in dB, two images count as equal: a root-mean-square error of 1.4 levels."""
LOSS = 0.1
"""A frame counts as worse if it loses more than this, in dB."""
STILL = 24
"""Frames of the generated versions that do not use the sequence's motion."""
DISTANCE = 8
"""Frames of high-speed footage from one exposure to the next."""
WINDOWS = (3, 5, 7, 9, 11, 13)
"""Frames of such footage per exposure."""

Clip = np.ndarray
"""uint8 [T, H, W, 3], RGB."""


@dataclasses.dataclass(frozen=True)
class Version:
    """An input with its truth."""

    name: str
    blurry: Clip
    sharp: Clip
    region: np.ndarray | None = None
    """bool [T, H, W]: where errors count; None means everywhere."""
    flickers: bool = False
    """Whether to compare the changes from frame to frame, since nothing moves."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Scores of one version, means over its frames; a PSNR is infinite only if all frames equal their truth."""

    sequence: str
    version: str
    frames: int
    psnr_in: float
    psnr_out: float
    gain: float
    """Gain in dB, with the PSNR before and after capped at :data:`CEILING`."""
    worst: float
    """The smallest gain of a frame."""
    worst_frame: int
    worse: float
    """Share of frames that lose more than :data:`LOSS`."""
    ssim_in: float | None = None
    ssim_out: float | None = None
    flicker: float | None = None
    """Mean absolute change from frame to frame in the output, relative to the input."""


def robustness(
    model: VideoDeblurrer, folders: ListLike[Path], *, with_ssim: bool = False, workers: int = 0
) -> Iterator[Row]:
    """Yield a row for each version of each sequence of pairs, and of each folder of sharp frames that is not in a pair.

    Args:
        model: on its device, in evaluation mode.
        folders: data sets, sequences, or folders of frames.
        with_ssim: also compute SSIM, which needs scikit-image; not for parts of frames, nor for frames smaller than its
            window of 11x11 pixels.
        workers: threads that compute SSIM.

    Raises:
        RirnError: a folder has no frames, or PyAV, which compresses them, is missing.
    """
    seen: Counter[str] = Counter()
    for folder in folders:
        for name, versions in _videos(folder):
            name = numbered(name, seen)
            for version in versions:
                restored = restore(model, version.blurry)
                yield _score(name, version, restored, with_ssim and version.region is None, workers)


def _videos(folder: Path) -> Iterator[tuple[str, Iterator[Version]]]:
    if not folder.is_dir():
        raise RirnError(f"there is no folder {folder}")
    places = footage_places(folder)
    sequences = find_sequences(folder) if any(place.blurry is not None for place in places) else []
    footage = [
        (place.name, files)
        for place in places
        if place.blurry is None and (files := list_images(place.sharp))
    ]
    if not sequences and not footage:
        raise RirnError(f"{folder} holds no frames; give a folder of images, or one with blur/ beside sharp/")
    for sequence in sequences:
        yield sequence.name, versions_of_pairs(*_read(sequence))
    for name, files in footage:
        yield name, versions_of_footage(_alike(files))


def _read(sequence: Sequence) -> tuple[Clip, Clip]:
    blurry, sharp = _alike(sequence.blurry), _alike(sequence.sharp)
    if blurry.shape != sharp.shape:
        raise RirnError(
            f"the frames of {sequence.name} are not of the size of their truth; a pair needs one size"
        )
    return blurry, sharp


def _alike(files: ListLike[Path]) -> Clip:
    frames = [read_image(file) for file in files]
    check_alike(files, frames)
    return np.stack(frames)


def versions_of_pairs(blurry: Clip, sharp: Clip) -> Iterator[Version]:
    """Versions of blurry frames with a truth; reduced blur is a mix with the sharp frame in linear light."""
    yield Version("as it is", blurry, sharp)
    for crf in (18, 23, 28):
        yield Version(f"H.264, crf {crf}", through_h264(blurry, crf), sharp)
    yield Version("noise of 5 levels", add_noise(blurry, 5, np.random.default_rng(0)), sharp)
    half = (blurry.shape[1] // 2, blurry.shape[2] // 2)
    yield Version("half size", resize(blurry, half), resize(sharp, half))
    yield Version("every second frame", blurry[::2], sharp[::2])
    for name, share in (("half of the blur", 0.5), ("a quarter of the blur", 0.25)):
        yield Version(name, mixed(blurry, sharp, share), sharp)
    yield from versions_of_sharp(sharp)


def versions_of_footage(frames: Clip) -> Iterator[Version]:
    """Versions of sharp frames, including exposures of several of them if they are high-speed footage."""
    yield from versions_of_sharp(frames)
    for window in WINDOWS:
        pairs = list(average_frames(frames, window, DISTANCE))
        if len(pairs) > 1:
            blurry, sharp = (np.stack(half) for half in zip(*pairs, strict=True))
            yield Version(f"mean of {window} frames, every {DISTANCE}th", blurry, sharp)


def versions_of_sharp(sharp: Clip) -> Iterator[Version]:
    """Versions that should stay unchanged, and a thing moving in front of a static camera."""
    yield Version("sharp", sharp, sharp)
    yield Version("sharp, H.264, crf 23", through_h264(sharp, 23), sharp)
    ramp = torch.linspace(-1, 2, sharp.shape[2]).clamp(0, 1)
    unfocused = defocus(sharp, 3, ramp)
    yield Version("sharp, right side out of focus", unfocused, unfocused)
    still = np.repeat(sharp[:1], STILL, 0)
    yield Version("still picture", still, still)
    noisy = add_noise(still, 3, np.random.default_rng(1))
    yield Version("still picture, noise of 3 levels", noisy, still, flickers=True)
    for name, exposure in (("sharp", 0.0), ("blurred", 0.8)):
        scene = Scene(
            still_rate=1,
            layers=(2, 2),
            speed=(8, 16),
            sharp_rate=0,
            exposure=(exposure, exposure),
            changing_rate=0,
        )
        blurry, truth = film_scene(
            [sharp[0], sharp[-1]], np.random.default_rng(2), size=sharp.shape[1:3], frames=STILL, scene=scene
        )
        background = np.median(truth, 0)
        moves = np.maximum(*(np.abs(clip - background).max(-1) for clip in (blurry, truth))) > 2
        for part, region in (("inside", moves), ("outside", ~moves)):
            if region.any():  # nothing is seen to move in front of its like, such as the black ends of a fade
                yield Version(f"static camera, thing moves {name}: {part}", blurry, truth, region)


@torch.inference_mode()
def restore(model: VideoDeblurrer, clip: Clip) -> Clip:
    """Run a clip through a model, frame by frame."""
    like = next(model.parameters())
    state, images = None, []
    for frame in clip:
        image = torch.from_numpy(frame).permute(2, 0, 1)[None].to(like.device, like.dtype) / 255
        restored, state = model.step(image, state)
        images += [] if restored is None else [restored]
    images += model.flush(state) if model.delay else []
    return np.stack([to_uint8(image[0]) for image in images])


def _score(name: str, version: Version, restored: Clip, with_ssim: bool, workers: int) -> Row:
    if len(restored) != len(version.blurry):
        raise RirnError(
            f"the model gives {len(restored)} images for {len(version.blurry)} frames; robustness is scored with models that "
            "give one for each"
        )
    errors = [_errors(clip, version) for clip in (version.blurry, restored)]
    before, after = (np.minimum(_decibels(error), CEILING) for error in errors)
    gains = after - before
    means = [float(np.mean(_decibels(error))) for error in errors]
    figures = {}
    if with_ssim and min(version.sharp.shape[1:3]) >= 11:
        figures = {"ssim_in": version.blurry, "ssim_out": restored}
        figures = {field: _mean_ssim(clip, version.sharp, workers) for field, clip in figures.items()}
    if version.flickers:
        figures["flicker"] = _change(restored) / _change(version.blurry)
    worst = int(np.argmin(gains))
    counted = (
        np.arange(len(restored)) if version.region is None else np.flatnonzero(version.region.any((1, 2)))
    )
    worse = float(np.mean(gains < -LOSS))
    return Row(
        name,
        version.name,
        len(gains),
        *means,
        float(gains.mean()),
        float(gains[worst]),
        int(counted[worst]),
        worse,
        **figures,
    )


def _errors(clip: Clip, version: Version) -> np.ndarray:
    """Mean squared error of each frame, [T]; only frames that contain part of the region."""
    squares = np.stack(
        [np.square(a.astype(np.float32) - b).mean(-1) for a, b in zip(clip, version.sharp, strict=True)]
    )
    if version.region is None:
        return squares.mean((1, 2))
    counts = version.region.sum((1, 2))
    return ((squares * version.region).sum((1, 2)) / np.maximum(counts, 1))[counts > 0]


def _decibels(errors: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return 10 * np.log10(255**2 / errors.astype(np.float64))


def _change(clip: Clip) -> float:
    return float(np.abs(np.diff(clip.astype(np.int16), axis=0)).mean())


def _mean_ssim(clip: Clip, sharp: Clip, workers: int) -> float:
    measure: Callable[[tuple[np.ndarray, np.ndarray]], float] = lambda pair: ssim(*pair)  # noqa: E731
    return float(np.mean(list(map_ahead(measure, zip(clip, sharp, strict=True), workers))))


def format_robustness(rows: ListLike[Row], model: str) -> str:
    """Format a line for each row."""
    width = max(len(row.version) for row in rows)
    lines = []
    for sequence in dict.fromkeys(row.sequence for row in rows):
        lines += [
            f"{sequence}, {model}",
            f"{'version':{width}s} frames  PSNR in    out   gain  worst (frame) worse  SSIM in    out",
        ]
        for row in rows:
            if row.sequence != sequence:
                continue
            line = (
                f"{row.version:{width}s} {row.frames:6d}  {row.psnr_in:7.2f} {row.psnr_out:6.2f} {row.gain:+6.2f} "
                f"{row.worst:+6.2f} ({row.worst_frame:5d}) {row.worse:5.0%}"
            )
            if row.ssim_in is not None:
                line += f"   {row.ssim_in:.4f} {row.ssim_out:.4f}"
            if row.flicker is not None:
                line += f"  flicker {row.flicker:.2f}"
            lines.append(line)
        lines.append("")
    lines += [
        f"gain: mean over frames, PSNR cut at {CEILING:.0f} dB at both ends, alike to the eye; worst: of a frame;",
        f"worse: share of frames that lose more than {LOSS} dB; flicker: change from frame to frame, output over input",
    ]
    return "\n".join(lines)
