"""Generate a small data set: a camera that shakes in front of photos that come with scikit-image."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rirn.data.synthesis import Shake
from rirn.errors import RirnError
from rirn.synth import MANIFEST, SynthConfig, synthesize

PHOTOS = {
    "train": (
        "coffee.png",
        "motorcycle_left.png",
        "motorcycle_right.png",
        "rocket.jpg",
        "ihc.png",
        "brick.png",
        "coins.png",
        "grass.png",
        "gravel.png",
        "camera.png",
    ),
    "test": ("astronaut.png", "chelsea.png"),
}
"""Files of scikit-image's ``data`` folder by split: no scene is in both."""

SHAKES = {
    "steady": Shake(tremor=0.5, drift=0, pan=(5, 7), jerk_rate=0, exposure=(0.9, 0.9)),
    "abrupt": Shake(
        tremor=0.3, drift=0, pan=(2.5, 3.5), jerk_rate=0.25, jerk=12, exposure=(0.9, 0.9), frame_rate=6
    ),
}
"""Movements, each used for half of both splits: ``steady`` pans with the same blur in all frames of a clip, and slower pans
with kicks that last a frame or two (``abrupt``).

The blur is strong and partly known, along one side of the frame, so that a short training makes progress. With kicks, the
previous frame is much sharper than the blurred one, so that memory can help.
"""

SIZE = (96, 128)
FRAMES = 12
CLIPS = {"train": 2, "test": 2}
"""Clips per photo and movement."""


def write_photo_data(folder: Path) -> Path:
    """Write ``folder/{train,test}/{steady,abrupt}/<sequence>/{blur,sharp}``, the same pixels each time; existing data are kept.

    Raises:
        RirnError: scikit-image, which has the photos, is not installed; or the folder has data made with other parameters.
    """
    for sources, target, config in _missing(folder):
        synthesize(sources, target, config)
    return folder


def photo_data_commands(folder: Path) -> list[str]:
    """Return the commands that make the same data, none if they exist; errors as for :func:`write_photo_data`."""
    commands = []
    for sources, target, config in _missing(folder):
        words = ["rirn", "data", "synth", *map(str, sources), "--out", str(target)]
        commands.append(
            shlex.join([*words, *_options(config, SynthConfig()), *_options(config.shake, Shake(), "shake.")])
        )
    return commands


def _options(settings: Any, defaults: Any, prefix: str = "") -> Iterator[str]:
    """Yield options of ``rirn data synth`` for settings other than the defaults."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != getattr(defaults, field.name) and not dataclasses.is_dataclass(value):
            yield f"--{prefix}{field.name}"
            yield value if isinstance(value, str) else json.dumps(value)


def _missing(folder: Path) -> Iterator[tuple[list[Path], Path, SynthConfig]]:
    """Yield photos, folder and settings of each missing part."""
    source = _photo_folder()
    for seed, (split, names) in enumerate(PHOTOS.items()):
        for movement, shake in SHAKES.items():
            config = SynthConfig(
                method="shake", size=SIZE, frames=FRAMES, clips=CLIPS[split], shrink=2, shake=shake, seed=seed
            )
            target = folder / split / movement
            if not _is_made(target, config):
                yield [source / name for name in names], target, config


def _photo_folder() -> Path:
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise RirnError("the small data set is made of photos of scikit-image: pip install 'rirn[eval]'")
    return Path(found.origin).parent / "data"


def _is_made(target: Path, config: SynthConfig) -> bool:
    """Whether a folder has the data that the settings describe."""
    manifest = target / MANIFEST
    if not manifest.exists():
        return False
    asked = json.loads(json.dumps(dataclasses.asdict(config)))
    if json.loads(manifest.read_text(encoding="utf-8"))["parameters"] != asked:
        raise RirnError(f"{target} was made with other parameters; remove it to have it made anew")
    return True
