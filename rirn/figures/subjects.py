"""Inputs of figures: models from weights files, and clips of frames, with their truth if there is one."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rirn.data.images import read_image
from rirn.data.layouts import find_places
from rirn.data.sequences import find_sequences
from rirn.errors import RirnError
from rirn.models.deblurrer import VideoDeblurrer
from rirn.models.state import State
from rirn.nn import Blending, blending_modules, watch_blending
from rirn.video.images import to_8_bits
from rirn.video.reader import Reader
from rirn.weights import load


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model with a label for legends and tables."""

    label: str
    """The model's name, with the place of its weights if several have that name."""
    weights: str
    """The weights as requested."""
    model: VideoDeblurrer

    @property
    def kind(self) -> str:
        """The model's name: runs of one kind share a colour."""
        return self.model.config["name"]

    @property
    def file_name(self) -> str:
        """The label in a form for file names."""
        return re.sub(r"[^\w.+-]+", "-", self.label).strip("-")

    @property
    def has_inner(self) -> bool:
        return self.model.irm is not None

    @property
    def has_blending(self) -> bool:
        return bool(blending_modules(self.model))


def load_subjects(weights: list[str], device: str) -> list[Subject]:
    """Load models by names of shipped weights or paths.

    Raises:
        RirnError: one cannot be loaded.
    """
    models = [load(name, device=device) for name in weights]
    kinds = [model.config["name"] for model in models]
    labels = [
        kind if kinds.count(kind) == 1 else f"{kind} ({_place(name)})"
        for name, kind in zip(weights, kinds, strict=True)
    ]
    if len(set(labels)) < len(labels):
        labels = [f"{kind} ({name})" for name, kind in zip(weights, kinds, strict=True)]
    return [Subject(*parts) for parts in zip(labels, weights, models, strict=True)]


def _place(weights: str) -> str:
    """The folder of a file if its name is the one that ``rirn train`` always uses, else the file's name."""
    path = Path(weights)
    return path.resolve().parent.name if path.stem == "weights" else path.stem


@dataclasses.dataclass(frozen=True)
class Clip:
    """Consecutive frames, cropped at the right and bottom to multiples of 8, so that no model pads them and features align with
    the truth."""

    name: str
    read: Callable[[], Iterator[tuple[np.ndarray, np.ndarray | None]]]
    """Yields the frames and their truth or None, uint8 [H, W, 3] each, from the first one."""
    has_truth: bool

    def tensors(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the same as [3, H, W] in [0, 1]."""
        for pair in self.read():
            yield tuple(None if image is None else to_tensor(image, device) for image in pair)


def find_clips(
    source: str | Path,
    *,
    split: str | None = None,
    blur: str | None = None,
    sequences: int | None = None,
    frames: int | None = None,
) -> list[Clip]:
    """Return the clips of a data set, or a video or folder of images as one clip without truth.

    Args:
        source: a folder with ``blur/`` beside ``sharp/`` somewhere in it, a video file or a folder of images.
        split, blur: as for :func:`rirn.data.find_sequences`.
        sequences: maximum number of clips.
        frames: maximum number of frames of each.

    Raises:
        RirnError: nothing is found, or a split or kind of blur is given for something that is no data set.
    """
    path = Path(source)
    if not path.is_dir() or not any(p.sharp is not None for p in find_places(path, blur)):

        def read_video() -> Iterator[tuple[np.ndarray, None]]:
            with Reader(path) as reader:
                for frame in islice(reader, frames):
                    yield _cropped(to_8_bits(frame.rgb)), None

        if split is not None or blur is not None:
            raise RirnError(f"--split and --blur choose within a data set, and {path} is none; drop them")
        with Reader(path):  # refuses here what is no video
            return [Clip(path.stem, read_video, has_truth=False)]

    def reader_of(pairs: list[tuple[Path, Path]]) -> Callable:
        return lambda: (_read_pair(*pair) for pair in pairs)

    return [
        Clip(s.name, reader_of(list(zip(s.blurry, s.sharp, strict=True))[:frames]), has_truth=True)
        for s in find_sequences(path, split=split, blur=blur)[:sequences]
    ]


def _read_pair(blurry: Path, sharp: Path) -> tuple[np.ndarray, np.ndarray]:
    frame, truth = read_image(blurry), read_image(sharp)
    if frame.shape != truth.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (frame, truth))
        raise RirnError(f"{blurry} and {sharp} differ in size ({sizes}); a pair must have one")
    return _cropped(frame), _cropped(truth)


def _cropped(image: np.ndarray) -> np.ndarray:
    multiple = 8  # for networks at half resolution
    height, width = (side // multiple * multiple for side in image.shape[:2])
    if not height or not width:
        raise RirnError(f"figures need frames of at least {multiple}x{multiple} pixels")
    return image[:height, :width]


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, H, W] in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).to(device).float() / 255


@dataclasses.dataclass(frozen=True)
class Step:
    """One frame on its way through a model."""

    number: int
    """Number of the frame in its clip. With look-ahead, its tensors come later than the frame itself."""
    frame: Tensor
    """[3, H, W], the frame that was fed: ``delay`` frames after ``number``."""
    before: State | None
    after: State
    image: Tensor
    """The restored frame, [3, H, W]."""
    blending: Blending | None
    """What ATB or DTB did."""


def walk(model: VideoDeblurrer, frames: Iterator[Tensor]) -> Iterator[Step]:
    """Restore frames [3, H, W] one by one and yield each step; the last ``delay`` frames are omitted."""
    state: State | None = None
    seen: list[Blending] = []
    with watch_blending(model, seen.append):
        for fed, frame in enumerate(frames):
            before = state
            seen.clear()
            with torch.inference_mode():
                image, state = model.step(frame[None], before)
            if image is not None:
                yield Step(fed - model.delay, frame, before, state, image[0], seen[-1] if seen else None)


def nearest(pictures: list[tuple], shown: int | None, frames: int) -> tuple:
    """Return the tuple whose frame number, its first entry, is nearest to ``shown`` or to the middle of ``frames``.

    Raises:
        RirnError: there is no frame ``shown``.
    """
    wanted = frames // 2 if shown is None else shown
    if not 0 <= wanted < frames:
        raise RirnError(f"--frame {shown} is not among the {frames} frames of the first clip")
    return min(pictures, key=lambda picture: abs(picture[0] - wanted))


def require_steps(subject: Subject, steps: int) -> None:
    """Refuse clips, or a first clip to draw, in which no frame has a predecessor.

    Raises:
        RirnError: there was none.
    """
    if not steps:
        needed = subject.model.delay + subject.model.dropped + 2
        raise RirnError(f"{subject.label} needs clips of at least {needed} frames, the first one above all")


@torch.inference_mode()
def restored(model: VideoDeblurrer, frames: list[Tensor], state: State | None = None) -> dict[int, Tensor]:
    """Return images [3, H, W] by number, 0 for the first of ``frames``; with look-ahead, also frames that the state held back."""
    images = {}
    for fed, frame in enumerate(frames):
        image, state = model.step(frame[None], state)
        if image is not None:
            images[fed - model.delay] = image[0]
    waiting = model.flush(state) if model.delay else []
    return images | {len(frames) - len(waiting) + i: image[0] for i, image in enumerate(waiting)}
