"""Clips with known cuts, and with all that is easily taken for one; `python -m tests.video.scene_clips` scores the detector.

The pictures are photographs of scikit-image, seen through a window of 160x90 that moves. The detector's thresholds were chosen by
other footage.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rirn.video import CutDetector, Reader

WIDTH, HEIGHT = 160, 90
PHOTOS = [
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
]


@dataclass(frozen=True)
class Clip:
    """`frames`, uint8 [90, 160, 3] each, and the numbers of those that begin a scene."""

    kind: str
    frames: list[np.ndarray]
    cuts: list[int]


def photos():
    """The photographs, float32 [H, W, 3] in 0..255, four to five windows wide."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    made = []
    for name in PHOTOS:
        with Image.open(folder / name) as image:
            image = image.convert("RGB")
            scale = 4.5 * WIDTH / image.width
            size = round(image.width * scale), round(image.height * scale)
            made.append(np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32))
    return made


class Camera:
    """Shots over photographs, chosen by a seed; no two photographs follow each other twice."""

    def __init__(self, pictures, seed):
        self._pictures, self._rng, self._last = pictures, np.random.default_rng(seed), -1

    def integer(self, low, high):
        return int(self._rng.integers(low, high + 1))

    def photo(self):
        choice = (self._last + self.integer(1, len(self._pictures) - 1)) % len(self._pictures)
        self._last = choice
        return self._pictures[choice]

    def shot(self, frames, speed=2.0, photo=None, at=None):
        """float32 frames of a window that moves by `speed` (a number, or one for each frame) pixels per frame."""
        photo = self.photo() if photo is None else photo
        steps = np.cumsum(np.broadcast_to(speed, frames))
        tall, wide = photo.shape[0] - HEIGHT, photo.shape[1] - WIDTH
        x, y = at or (self.integer(0, wide), self.integer(0, tall))
        angle = self._rng.uniform(0, 2 * np.pi)
        return [
            _window(photo, _bounce(x + np.cos(angle) * s, wide), _bounce(y + 0.3 * np.sin(angle) * s, tall))
            for s in steps
        ]

    def noisy(self, frames, sigma):
        return [f + self._rng.normal(0, sigma, f.shape) for f in frames]


def _bounce(at, limit):
    """A position that turns back at 0 and at `limit`."""
    at = at % (2 * limit)
    return round(min(at, 2 * limit - at))


def _window(photo, x, y):
    return photo[y : y + HEIGHT, x : x + WIDTH]


def _joined(shots):
    """Frames of all shots, and where each but the first begins."""
    starts = np.cumsum([len(s) for s in shots])[:-1]
    return [f for s in shots for f in s], [int(s) for s in starts]


def hard_cuts(c):
    return _joined([c.shot(c.integer(8, 20), c.integer(0, 3)) for _ in range(5)])


def cuts_in_fast_motion(c):
    return _joined([c.shot(c.integer(10, 20), c.integer(12, 25)) for _ in range(5)])


def cuts_between_short_shots(c):
    return _joined([c.shot(c.integer(2, 4), 2) for _ in range(10)])


def cuts_in_the_dark(c):
    frames, cuts = _joined([c.shot(c.integer(8, 20)) for _ in range(5)])
    return c.noisy([0.12 * f for f in frames], 3), cuts


def cuts_at_low_contrast(c):
    frames, cuts = _joined([c.shot(c.integer(8, 20)) for _ in range(5)])
    return [110 + 0.25 * (f - 128) for f in frames], cuts


def cuts_within_one_place(c):
    photo = c.photo()
    wide, tall = photo.shape[1] - WIDTH, photo.shape[0] - HEIGHT
    ends = [(0, 0), (wide, tall), (wide, 0), (0, tall)]
    return _joined([c.shot(c.integer(8, 20), 2, photo, at) for at in ends])


def fades(c):
    a, b = c.shot(30), c.shot(30)
    down, up = np.linspace(1, 0, 12), np.linspace(0, 1, 12)
    return a[:18] + [f * t for f, t in zip(a[18:], down, strict=True)] + [
        f * t for f, t in zip(b[:12], up, strict=True)
    ] + b[12:], []


def dissolves(c):
    a, b = c.shot(30), c.shot(30)
    mixed = [(1 - t) * f + t * g for f, g, t in zip(a[18:], b[:12], np.linspace(0, 1, 12), strict=True)]
    return a[:18] + mixed + b[12:], []


def flashes(c):
    frames = c.shot(50)
    for _ in range(3):
        at, light = c.integer(5, 45), c.integer(60, 220)
        for i in range(at, at + c.integer(1, 2)):
            frames[i] = frames[i] + light
    return frames, []


def exposure(c):
    gain = np.ones(50)
    gain[20:26], gain[26:] = np.linspace(1, 0.5, 6), 0.5
    return [f * g for f, g in zip(c.shot(50), gain, strict=True)], []


def whip_pans(c):
    speed = np.full(50, 2.0)
    speed[20:32] = 60 * np.sin(np.linspace(0.2, np.pi - 0.2, 12))
    return c.shot(50, speed), []


def something_passes_close(c):
    frames, other = c.shot(40), c.shot(1)[0]
    for i in range(10):
        edge = round((i + 1) / 11 * 2 * WIDTH) - WIDTH  # from left to right, as wide as the picture
        low, high = max(0, edge), min(WIDTH, edge + WIDTH)
        frames[15 + i] = frames[15 + i].copy()
        frames[15 + i][:, low:high] = other[:, low - edge : high - edge]
    return frames, []


def shake(c):
    photo = c.photo()
    wide, tall = photo.shape[1] - WIDTH, photo.shape[0] - HEIGHT
    at = [(wide // 2 + c.integer(-8, 8), tall // 2 + c.integer(-8, 8)) for _ in range(50)]
    return [_window(photo, x, y) for x, y in at], []


def noise_in_the_dark(c):
    return c.noisy([0.12 * f for f in c.shot(50)], 8), []


KINDS = (
    hard_cuts,
    cuts_in_fast_motion,
    cuts_between_short_shots,
    cuts_in_the_dark,
    cuts_at_low_contrast,
    cuts_within_one_place,
    fades,
    dissolves,
    flashes,
    exposure,
    whip_pans,
    something_passes_close,
    shake,
    noise_in_the_dark,
)


def clips(seeds):
    """One clip of each kind for each seed."""
    pictures = photos()
    for number, make in enumerate(KINDS):
        for seed in seeds:
            frames, cuts = make(Camera(pictures, 100 * number + seed))
            small = [np.clip(f, 0, 255).round().astype(np.uint8) for f in frames]
            yield Clip(make.__name__.replace("_", " "), small, cuts)


def scores(some):
    """By kind: cuts, those found, false alarms, frames."""
    table = {}
    for clip in some:
        detector = CutDetector()
        found = {i for i, frame in enumerate(clip.frames) if detector(frame)}
        row = table.setdefault(clip.kind, [0, 0, 0, 0])
        hits = len(found & set(clip.cuts))
        for i, n in enumerate((len(clip.cuts), hits, len(found) - hits, len(clip.frames))):
            row[i] += n
    return table


def real_clips(paths):
    """Videos without a cut, each whole, and then in turns of 20 frames."""
    videos = []
    for path in paths:
        with Reader(path) as reader:
            # Every second pixel or so: the detector sees means of blocks, whatever the size.
            step = max(1, reader.info.width // (2 * WIDTH))
            videos.append([np.ascontiguousarray(frame.rgb[::step, ::step]) for frame in reader])
        yield Clip("real, no cut", videos[-1], [])
    size = min(v[0].shape[:2] for v in videos)
    turns = [[np.array(Image.fromarray(f).resize(size[::-1])) for f in v] for v in videos]
    pieces = [t[i : i + 20] for i in range(0, min(map(len, turns)) - 19, 20) for t in turns]
    yield Clip("real, in turns", *_joined(pieces))


def main(videos):
    table = scores([*clips(range(6)), *(real_clips(videos) if videos else [])])
    print("| kind | frames | cuts | found | false alarms |\n|---|---|---|---|---|")
    for kind, (cuts, hits, false, frames) in table.items():
        print(f"| {kind} | {frames} | {cuts} | {hits} | {false} |")
    cuts, hits, false, frames = np.sum(list(table.values()), axis=0)
    print(f"| all | {frames} | {cuts} | {hits} | {false} |")
    print(f"\nprecision {hits / (hits + false):.3f}, recall {hits / cuts:.3f}")


if __name__ == "__main__":
    main(sys.argv[1:])
