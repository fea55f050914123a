"""``rirn data synth``: a data set of synthetic blur from footage or photos, in the plain layout, with a manifest."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rirn.data.camera import Camera, resize
from rirn.data.images import list_images, read_image
from rirn.data.interpolation import interpolate_frames
from rirn.data.scenes import Scene, film_scene
from rirn.data.sequences import write_sequence
from rirn.data.synthesis import GAMMA, Shake, average_frames, shake_photo, shrink_photo
from rirn.errors import RirnError
from rirn.lazy import Later
from rirn.version import __version__

np = Later("numpy")

MANIFEST = "manifest.json"
Pairs: TypeAlias = "Iterator[tuple[np.ndarray, np.ndarray]]"


@dataclasses.dataclass
class SynthConfig:
    """How the blur is made."""

    method: Literal["average", "interpolate", "shake", "scene"] = "average"
    """``average`` frames of high-speed video (120 fps or more, motion of a few pixels per frame); ``interpolate`` between
    frames of ordinary video and average those; ``shake`` a camera in front of a photo; ``scene`` moves parts of the other photos
    in front of one, with a shutter of any speed."""
    gamma: float = GAMMA
    """Light is the pixel value to this power; blur is the mean of light."""
    window: int = 11
    """Frames per exposure, odd; with ``interpolate``, of the interpolated frames."""
    stride: int | None = None
    """Frames from one exposure to the next. Default: the window with ``average``, ``subframes`` with ``interpolate``, so that
    the sharp frames are those that were filmed."""
    subframes: int = 8
    """With ``interpolate``: intervals that one frame interval is split into; each frame is exposed for window / subframes
    of its interval."""
    size: tuple[int, int] = (360, 640)
    """With ``shake`` and ``scene``: height and width of the clips, in pixels."""
    frames: int = 24
    """With ``shake`` and ``scene``: frames per clip."""
    clips: int = 1
    """With ``shake`` and ``scene``: clips per photo."""
    shrink: int = 1
    """With ``shake`` and ``scene``: pixels of the photo per pixel of the clip, each way; 2 or more for camera photos."""
    shake: Shake = dataclasses.field(default_factory=Shake)
    """With ``shake``: how the camera moves."""
    scene: Scene = dataclasses.field(default_factory=Scene)
    """With ``scene``: what moves, how fast, and how long the shutter is open."""
    camera: Camera | None = None
    """What the camera and its codec then do: size, tone, noise, compression; by default nothing."""
    seed: int = 0
    """Random seed of ``shake``, ``scene`` and ``camera``."""

    def __post_init__(self) -> None:
        for name in ("gamma", "window", "subframes", "frames", "clips", "shrink"):
            if not getattr(self, name) > 0:
                raise RirnError(f"{name} must be positive; got {getattr(self, name)}")
        if self.window % 2 == 0:
            raise RirnError(f"window must be odd, so that one frame is the middle; got {self.window}")
        if self.stride is not None and self.stride < 1:
            raise RirnError(f"stride must be positive; got {self.stride}")
        if self.seed < 0:
            raise RirnError(f"seed must not be negative; got {self.seed}")
        if self.method == "scene" and self.gamma != GAMMA:
            raise RirnError(f"scenes are made with a gamma of {GAMMA}; leave gamma, now {self.gamma}, out")
        if min(self.size) < 1:
            raise RirnError(f"size must be positive; got {list(self.size)}")


def synthesize(
    sources: Sequence[Path], out: Path, config: SynthConfig, *, workers: int = 0
) -> dict[str, Any]:
    """Write ``out/<sequence>/{blur,sharp}/NNNNNN.png`` and ``out/manifest.json``, all or nothing; return the manifest.

    Args:
        sources: video files or folders of frames; with ``shake`` photos or folders of photos.
        out: a new or empty folder.
        config: how the blur is made.
        workers: threads that compute optical flow.

    Raises:
        RirnError: ``out`` is not empty, or a source cannot be read or yields no pair.
    """
    from tqdm import tqdm

    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RirnError(f"{out} is there already and not an empty folder; give a new one")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        made = []
        for name, origin, pairs in tqdm(_sequences(sources, config, workers), unit="sequence", disable=None):
            count = write_sequence(partial / name, pairs)
            if count:
                made.append({"sequence": name, "pairs": count, **origin})
            else:  # a shot shorter than an exposure
                shutil.rmtree(partial / name)
        for source in sources:
            if not any(Path(row["source"]).is_relative_to(source) for row in made):
                raise RirnError(
                    f"{source} gives no pair: it has no shot as long as an exposure; lower window"
                )
        manifest = {"rirn": __version__, "parameters": dataclasses.asdict(config), "sequences": made}
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _sequences(
    sources: Sequence[Path], config: SynthConfig, workers: int
) -> Iterator[tuple[str, dict[str, Any], Pairs]]:
    """Name, origin and pairs of each sequence to write."""

    photos = config.method in ("shake", "scene")
    make = _shaken(sources, config) if photos else _filmed(sources, config, workers)
    taken: set[str] = set()
    for number, (stem, origin, pairs) in enumerate(make):
        if config.camera is not None:
            pairs = _through(config.camera, pairs, np.random.default_rng([config.seed, number, 1]))
        name = next(n for i in range(len(taken) + 1) if (n := f"{stem}-{i + 1}" if i else stem) not in taken)
        taken.add(name)
        yield name, origin, pairs


def _filmed(
    sources: Sequence[Path], config: SynthConfig, workers: int
) -> Iterator[tuple[str, dict[str, Any], Pairs]]:
    from rirn.video.reader import Reader
    from rirn.video.scenes import split_scenes

    for source in sources:
        with Reader(source) as reader:
            for shot, frames in enumerate(split_scenes(frame.rgb for frame in reader)):
                if config.method == "average":
                    pairs = average_frames(frames, config.window, config.stride, config.gamma)
                else:
                    dense = interpolate_frames(frames, config.subframes, config.gamma, workers)
                    # Every exposure is centred on a frame that was filmed, which is its sharp one.
                    skip = -(config.window // 2) % config.subframes
                    pairs = average_frames(
                        dense, config.window, config.stride or config.subframes, config.gamma, skip
                    )
                yield Path(source).stem, {"source": str(source), "shot": shot}, pairs


def _through(camera: Camera, pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Pairs as the camera stores them; the codec needs the whole clip in memory."""
    clips = [np.stack(half) for half in zip(*pairs, strict=True)]
    if not clips:
        return
    scale = camera.draw_scale(rng)
    if scale < 1:
        size = tuple(max(2, round(side * scale)) for side in clips[0].shape[1:3])
        clips = [resize(clip, size) for clip in clips]
    yield from zip(*camera.film(*clips, rng), strict=True)


def _photo(path: Path, config: SynthConfig) -> np.ndarray:
    photo = shrink_photo(read_image(path), config.shrink, config.gamma)
    if min(have - need for have, need in zip(photo.shape, config.size, strict=False)) < 0:
        raise RirnError(
            f"{path} is {photo.shape[1]}x{photo.shape[0]} shrunk by {config.shrink}, smaller than clips of "
            f"{config.size[1]}x{config.size[0]}; lower size or shrink"
        )
    return photo


def _shaken(sources: Sequence[Path], config: SynthConfig) -> Iterator[tuple[str, dict[str, Any], Pairs]]:
    photos = [file for source in sources for file in (list_images(source) if source.is_dir() else [source])]
    for number, path in enumerate(photos):
        photo = _photo(path, config)
        things = _photo(photos[(number + 1) % len(photos)], config) if config.method == "scene" else photo
        for clip in range(config.clips):
            rng = np.random.default_rng([config.seed, number, clip])
            if config.method == "scene":
                scene = film_scene(
                    [photo, things], rng, size=config.size, frames=config.frames, scene=config.scene
                )
                pairs = zip(*scene, strict=True)
            else:
                pairs = shake_photo(
                    photo, rng, size=config.size, frames=config.frames, shake=config.shake, gamma=config.gamma
                )
            yield path.stem, {"source": str(path), "clip": clip}, pairs
