"""Motion blur made from sharp material, always averaged in linear light.

There are two ways: averaging neighbouring frames of high-speed video, which is how the GOPRO data set was made
(:mod:`rirn.data.interpolation` makes such video from ordinary video), and shaking a camera in front of a photo, whose blur
changes more from frame to frame than that of real footage.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterable, Iterator

from rirn.errors import RirnError
from rirn.lazy import Later

np = Later("numpy")
torch = Later("torch")
F = Later("torch.nn.functional")

GAMMA = 2.2
SUBSTEPS = 64
"""Camera positions per frame interval in a trajectory."""


def to_linear(image: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """uint8 0..255 -> linear light, float32 in [0, 1]."""
    return (((np.arange(256) / 255.0) ** gamma).astype(np.float32))[image]


def from_linear(light: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """Linear light -> uint8 0..255, clipped to [0, 1] first."""
    return np.rint(255 * np.clip(light, 0, 1) ** (1 / gamma)).astype(np.uint8)


def average_frames(
    frames: Iterable[np.ndarray],  # uint8 [H, W, 3] each, consecutive frames of high-speed video
    window: int,  # odd: frames per exposure
    stride: int
    | None = None,  # frames between two exposures; default window, as in GOPRO: exposures do not overlap
    gamma: float = GAMMA,
    skip: int = 0,  # frames before the first exposure
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (blurry, sharp), uint8 [H, W, 3]: the mean of ``window`` frames, and the middle one.

    Holds no more than ``window`` frames at a time. A shorter video yields no pair.

    Raises:
        ValueError: ``window`` is not odd.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd, so that one frame is the middle; got {window}")
    exposure: deque[np.ndarray] = deque(maxlen=window)
    for number, frame in enumerate(frames):
        exposure.append(frame)
        start = number - window + 1 - skip
        if start >= 0 and start % (stride or window) == 0:
            light = sum(to_linear(f, gamma) for f in exposure) / window
            yield from_linear(light, gamma), np.asarray(exposure[window // 2])


def shrink_photo(photo: np.ndarray, factor: int, gamma: float = GAMMA) -> np.ndarray:
    """uint8 [H, W, 3] -> [H // factor, W // factor, 3], the mean light of each square of ``factor`` by ``factor`` pixels."""
    height, width = (side // factor for side in photo.shape[:2])
    light = to_linear(photo[: height * factor, : width * factor], gamma)
    return from_linear(light.reshape(height, factor, width, factor, 3).mean((1, 3)), gamma)


@dataclasses.dataclass(frozen=True)
class Shake:
    """How a hand-held camera moves; lengths in pixels of the clip, times in frames."""

    tremor: float = 7.0
    """Amplitude of the tremor between 1.5 and 10 Hz, pixels; roll and zoom follow in proportion."""
    drift: float = 3.0
    """Scale of the steady pan, pixels per frame."""
    pan: tuple[float, float] = (0.0, 0.0)
    """Least and largest speed of an additional pan, pixels per frame, along one side of the image; drawn once per clip."""
    jerk_rate: float = 0.12
    """Expected number of sudden kicks per frame."""
    jerk: float = 30.0
    """Scale of a kick, pixels."""
    exposure: tuple[float, float] = (0.45, 0.9)
    """Share of the frame interval during which the shutter is open; drawn once per clip."""
    frame_rate: float = 30.0
    """Frames per second, which the frequencies of the movement refer to."""

    def __post_init__(self) -> None:
        for name in ("tremor", "drift", "jerk_rate", "jerk"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RirnError(f"shake.{name} must be 0 or above and finite; got {getattr(self, name)}")
        if not 0 < self.frame_rate < math.inf:
            raise RirnError(f"shake.frame_rate must be positive and finite; got {self.frame_rate}")
        if not 0 <= self.pan[0] <= self.pan[1] < math.inf:
            raise RirnError(f"shake.pan must be two speeds, 0 <= least <= largest; got {list(self.pan)}")
        if not 0 < self.exposure[0] <= self.exposure[1] <= 1:
            raise RirnError(
                f"shake.exposure must be two shares, 0 < least <= largest <= 1; got {list(self.exposure)}"
            )


def trajectory(rng: np.random.Generator, frames: int, shake: Shake = Shake()) -> np.ndarray:
    """Camera path [frames * SUBSTEPS, 4]: shift right and down in pixels, roll in radians, zoom (0 = none)."""
    n = frames * SUBSTEPS
    steps = np.arange(n) / SUBSTEPS
    seconds = steps / shake.frame_rate
    path = np.zeros((n, 4))
    for axis, amplitude in enumerate(shake.tremor * np.array([1, 1, 0.003, 0.0015])):
        for _ in range(6):
            hertz = rng.uniform(1.5, 10)
            wave = np.sin(2 * np.pi * (hertz * seconds + rng.random()))
            path[:, axis] += amplitude / np.sqrt(3) * rng.normal() * wave * (3 / hertz) ** 0.7
    sway = rng.uniform(0.2, 0.8)
    for axis in range(2):
        path[:, axis] += (
            shake.drift * rng.normal() * steps * (1 + 0.5 * np.sin(2 * np.pi * (sway * seconds + axis / 4)))
        )
    if max(shake.pan) > 0:
        path[:, rng.integers(2)] += rng.choice([-1, 1]) * rng.uniform(*shake.pan) * steps
    start = rng.exponential(1 / shake.jerk_rate) if shake.jerk_rate > 0 else np.inf
    while start < frames:
        first = int(start * SUBSTEPS)
        last = min(n, first + int(rng.uniform(3, 7) * SUBSTEPS))
        t = seconds[first:last] - seconds[first]
        kick = np.exp(-rng.uniform(8, 18) * t) * np.sin(2 * np.pi * rng.uniform(3, 7) * t)
        direction = rng.normal(size=2)
        direction *= shake.jerk * rng.uniform(0.4, 1.3) / np.linalg.norm(direction)
        path[first:last, :2] += kick[:, None] * direction
        path[first:last, 2] += 0.02 * rng.normal() * kick
        start += rng.exponential(1 / shake.jerk_rate)
    return path - path.mean(0)


def shake_photo(
    photo: np.ndarray,  # uint8 [H, W, 3]; a clip that is well smaller than the photo needs no mirrored borders
    rng: np.random.Generator,
    *,
    size: tuple[int, int],  # (height, width) of the clip
    frames: int,
    shake: Shake = Shake(),
    gamma: float = GAMMA,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (blurry, sharp), uint8 [height, width, 3], of a camera shaking in front of a photo.

    One pixel of the clip is one pixel of the photo: shrink a large photo first. The sharp frame is the view in the middle of
    the exposure.
    """
    height, width = photo.shape[:2]
    light = torch.from_numpy(to_linear(photo, gamma)).permute(2, 0, 1)[None]
    path = trajectory(rng, frames, shake)
    open_steps = max(1, int(rng.uniform(*shake.exposure) * SUBSTEPS))
    reach = np.abs(path[:, :2]).max(0) + np.array([size[1], size[0]]) / 2
    centre = np.array([_draw(rng, reach[0], width), _draw(rng, reach[1], height)])
    for frame in range(frames):
        first = frame * SUBSTEPS + (SUBSTEPS - open_steps) // 2
        middle = first + open_steps // 2
        length = np.abs(np.diff(path[first : first + open_steps, :2], axis=0)).sum()
        # One view per pixel of travel: fewer leave ghosts, more make no difference at 8 bits.
        views = int(np.clip(np.ceil(length), 5, 48))
        steps = np.unique(np.linspace(first, first + open_steps - 1, views).round().astype(int))
        total = sum(_view(light, path[i], centre, size) for i in steps)
        yield (
            from_linear(total / len(steps), gamma),
            from_linear(_view(light, path[middle], centre, size), gamma),
        )


def _draw(rng: np.random.Generator, reach: float, length: int) -> float:
    """A centre at least ``reach`` from both ends of a side, or the middle where the side is too short."""
    return rng.uniform(reach, length - reach) if length > 2 * reach else length / 2


def _view(light: torch.Tensor, pose: np.ndarray, centre: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What the camera sees in one pose: linear light [height, width, 3]."""
    _, _, height, width = light.shape
    x, y, roll, zoom = pose
    cos, sin = np.cos(roll) * (1 + zoom), np.sin(roll) * (1 + zoom)
    rows, columns = size
    # affine_grid works in units of half the image: clip pixels -> photo pixels -> [-1, 1].
    theta = np.array(
        [
            [cos * columns / width, -sin * rows / width, 2 * (centre[0] + x) / width - 1],
            [sin * columns / height, cos * rows / height, 2 * (centre[1] + y) / height - 1],
        ]
    )
    grid = F.affine_grid(torch.from_numpy(theta).float()[None], [1, 3, rows, columns], align_corners=False)
    view = F.grid_sample(light, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return view[0].permute(1, 2, 0).numpy()
