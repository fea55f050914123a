"""The test sets of ``rirn claims``: exposures of footage that none of its networks has seen.

Each crop and movement is used twice, with equal exposures (``steady``) and with ones that differ from frame to frame
(``changing``), so that the two differ in nothing else. In ``changing``, runs of blurred frames alternate with single sharp ones.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rirn.data.images import list_images, read_image
from rirn.data.layouts import find_footage
from rirn.data.sequences import check_crop, find_sequences, write_sequence
from rirn.data.sources import around, mean_light, to_and_fro
from rirn.data.synthesis import Shake, shake_photo, shrink_photo
from rirn.errors import RirnError
from rirn.files import replacing
from rirn.training.results import exclusively

PAIRS, FOOTAGE, PHOTOS = Path("GOPRO_Large/test"), Path("GOPRO_Large_all/test"), Path("photos-test")
"""Folders of the data root that nothing is trained on."""
KINDS = ("steady", "changing")

FRAMES, SIDE = 24, 160
CLIPS = {"footage": 8, "photo": 8}
"""Number of crops and movements, taken from the folders and photos in turn."""
STRIDE = (6, 10)
"""Frames, at 240 per second, from one exposure to the next, both ends included."""
BLURRED = (7, 15)
"""Frames in a blurred exposure, odd."""
RUN = (1, 9)
"""Blurred frames between two sharp ones."""
PLACES = 8
"""Crops of footage of which the one with most motion is chosen: some hardly move at all."""
MOVEMENT = Shake(tremor=7, drift=0.5, jerk_rate=0, exposure=(0.01, 0.01), frame_rate=240)
"""Movement of the camera in front of a photo, at 240 frames per second."""
PHOTO_SIDE = 640
"""Approximate length of a photo's shorter side; larger ones are shrunk."""

TEST, WATCH = 0, 1
"""Seeds of the clips that are scored at the end, and of the few clips for learning curves."""
MANIFEST = "manifest.json"


def windows(rng: np.random.Generator, kind: str, sharp: int = 1) -> list[int]:
    """Return the number of frames in each exposure of a clip, all odd.

    Args:
        sharp: number of frames in sharp exposures.
    """

    def blurred() -> int:
        return 2 * int(rng.integers(BLURRED[0] // 2, BLURRED[1] // 2 + 1)) + 1

    if kind == "steady":
        return [blurred()] * FRAMES
    counts = [blurred() for _ in range(FRAMES)]
    place = int(rng.integers(0, RUN[1] // 2))
    while place < FRAMES:
        counts[place] = sharp
        place += int(rng.integers(RUN[0], RUN[1] + 1)) + 1
    return counts


def write_test_sets(data: Path, out: Path) -> None:
    """Write ``out/test/{steady,changing}/NAME`` and ``out/watch/NAME``, ``blur`` and ``sharp`` in each.

    The pixels are the same each time; existing sets are kept. Several processes may do it at once.

    Raises:
        RirnError: ``data`` lacks a folder or its content; or ``out`` has sets made from other data.
    """
    with exclusively(out / "test.lock", wait=True):
        made = _identity(data)
        manifest = out / MANIFEST
        if manifest.exists():
            if json.loads(manifest.read_text(encoding="utf-8")) != made:
                raise RirnError(
                    f"{out / 'test'} was made of other files or by another version of rirn; give another --out"
                )
            return
        for folder in (out / "test", out / "watch"):
            shutil.rmtree(folder, ignore_errors=True)
        for kind, counts in CLIPS.items():
            for number in range(counts):
                _write_both(data, kind, number, TEST, lambda exposure, name: out / "test" / exposure / name)
            # A curve is a mean over all frames, which a single one without error would make infinite.
            _write_both(data, kind, 0, WATCH, lambda exposure, name: out / "watch" / f"{exposure}-{name}", 3)
        _write_real(data, out / "watch" / "real")
        with replacing(manifest) as partial:
            partial.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


def _write_both(
    data: Path, kind: str, number: int, seed: int, place: Callable[[str, str], Path], sharp: int = 1
) -> None:
    rng = np.random.default_rng([seed, number, kind == "photo"])
    stride = int(rng.integers(STRIDE[0], STRIDE[1] + 1))
    reach = BLURRED[1] // 2
    centres = [reach + stride * i for i in range(FRAMES)]
    film = _photo_footage if kind == "photo" else _filmed_footage
    frame = film(data, number, rng, centres[-1] + reach + 1)
    for exposure in KINDS:
        counts = windows(rng, exposure, sharp)
        pairs = (_expose(frame, centre, count) for centre, count in zip(centres, counts, strict=True))
        write_sequence(place(exposure, f"{kind}-{number}"), pairs)


def _expose(frame: Callable[[int], np.ndarray], centre: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a blurry and a sharp frame."""
    sharp = frame(centre)
    return (sharp if count == 1 else mean_light(np.stack([frame(i) for i in around(centre, count)]))), sharp


def _filmed_footage(
    data: Path, number: int, rng: np.random.Generator, length: int
) -> Callable[[int], np.ndarray]:
    """Return the frames of a crop of high-speed footage, from a random start; back and forth if it is too short."""
    folders = footage_folders(data)
    files = list_images(folders[number % len(folders)])
    start = int(rng.integers(len(files)))

    def read(i: int) -> np.ndarray:
        return read_image(files[to_and_fro(start + i, len(files))])

    first, last = read(0), read(BLURRED[0])
    check_crop(*first.shape[1::-1], SIDE, files[start])
    square = _liveliest(rng, first, last)
    return functools.cache(lambda i: read(i)[square].copy())


def _liveliest(rng: np.random.Generator, one: np.ndarray, other: np.ndarray) -> tuple[slice, slice]:
    """Return the one of some random squares of two frames in which they differ most."""
    height, width = one.shape[:2]
    differences = np.abs(one.astype(np.float32) - other)
    corners = rng.integers(0, (max(1, height - SIDE + 1), max(1, width - SIDE + 1)), (PLACES, 2)).tolist()
    squares = [(slice(y, y + SIDE), slice(x, x + SIDE)) for y, x in corners]
    return max(squares, key=lambda square: float(differences[square].mean()))


def _photo_footage(
    data: Path, number: int, rng: np.random.Generator, length: int
) -> Callable[[int], np.ndarray]:
    """Return the frames of a camera that moves in front of a photo."""
    files = list_images(data / PHOTOS)
    photo = read_image(files[number % len(files)])
    photo = shrink_photo(photo, max(1, round(min(photo.shape[:2]) / PHOTO_SIDE)))
    filmed = shake_photo(photo, rng, size=(SIDE, SIDE), frames=length, shake=MOVEMENT)
    return [sharp for _, sharp in filmed].__getitem__


def _write_real(data: Path, folder: Path) -> None:
    """Write a crop of the first frames of the first real scene."""
    sequence = find_sequences(data / PAIRS)[0]
    pairs = [
        (read_image(blurry), read_image(sharp))
        for blurry, sharp in list(zip(sequence.blurry, sequence.sharp, strict=True))[:FRAMES]
    ]
    square = _liveliest(np.random.default_rng(WATCH), *pairs[len(pairs) // 2])
    write_sequence(folder, ((blurry[square], sharp[square]) for blurry, sharp in pairs))


def footage_folders(data: Path) -> list[Path]:
    """Return the folders of high-speed frames for scoring.

    Raises:
        RirnError: there are none.
    """
    folders = find_footage(data / FOOTAGE)
    if not folders:
        raise RirnError(
            f"{data / FOOTAGE} holds no folder of frames; give PNG or JPEG images, one folder for each video"
        )
    return folders


def _identity(data: Path) -> dict[str, object]:
    """What the test sets depend on: the settings above, and a digest of the names and sizes of the files."""
    find_sequences(data / PAIRS)
    photos = list_images(data / PHOTOS)
    if not photos:
        raise RirnError(f"{data / PHOTOS} holds no photo")
    files = [file for folder in footage_folders(data) for file in list_images(folder)] + photos
    listing = "".join(f"{file.relative_to(data)} {file.stat().st_size}\n" for file in files)
    settings = [FRAMES, SIDE, CLIPS, STRIDE, BLURRED, RUN, PLACES, vars(MOVEMENT), PHOTO_SIDE]
    return {
        "settings": json.loads(json.dumps(settings)),
        "files": hashlib.sha256(listing.encode()).hexdigest(),
    }
