"""Scenes of layers cut from photos, filmed by a camera of any shutter.

Things move in front of a background, each on its own path; the camera stands still, pans or shakes, and near things shift
more than far ones. The shutter time is drawn independently of the speed of the things, so that motion between frames does
not predict the blur within them. Light is added up linearly.
"""

from __future__ import annotations

import dataclasses
import math

from rirn.data.defocus import one_side, over_disc
from rirn.data.ranges import check_ranges, check_rates
from rirn.data.synthesis import SUBSTEPS, Shake, from_linear, to_linear, trajectory
from rirn.errors import RirnError
from rirn.lazy import Later

np = Later("numpy")
torch = Later("torch")
F = Later("torch.nn.functional")

VIEWS = 20
"""Most moments that make up an exposure."""
WEIGHTS = (1, 1, 60, 60)
"""Pixels by which a point a third of the way to the border of a clip moves, per unit of a pose."""


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is filmed and how; lengths in pixels of the clip, times in frames."""

    still_rate: float = 0.5
    """Probability that the camera stands still."""
    layers: tuple[int, int] = (0, 3)
    """Least and largest number of things in front of the background; at least one where the camera stands still."""
    speed: tuple[float, float] = (1.0, 20.0)
    """Least and largest speed of a thing in pixels per frame, drawn log-uniformly."""
    sharp_rate: float = 0.3
    """Probability of a shutter so short that nothing is blurred."""
    exposure: tuple[float, float] = (0.05, 1.0)
    """Otherwise the share of the frame interval during which it is open."""
    changing_rate: float = 0.2
    """Probability that the share is drawn anew for each frame, up to that of the clip, instead of once."""
    tremor: tuple[float, float] = (0.3, 8.0)
    """Least and largest tremor of a camera that does not stand still; see :class:`rirn.data.Shake`."""
    drift: float = 2.5
    """Its drift, likewise."""
    defocus_rate: float = 0.0
    """Probability that the background, and each thing, is out of focus: the background along one side of the picture or all over.
    The truth keeps the defocus: networks that never see it sharpen what was never sharp."""
    defocus: tuple[float, float] = (0.5, 4.0)
    """Least and largest radius of its circle of confusion, drawn log-uniformly."""

    def __post_init__(self) -> None:
        check_rates("scene", self, "still_rate", "sharp_rate", "changing_rate", "defocus_rate")
        limits = {
            "layers": (0, 16),
            "speed": (0.01, 500),
            "exposure": (0, 1),
            "tremor": (0, 100),
            "defocus": (0.1, 50),
        }
        check_ranges("scene", self, limits)
        if not 0 <= self.drift < math.inf:
            raise RirnError(f"scene.drift must be 0 or above and finite; got {self.drift}")


@dataclasses.dataclass
class _Layer:
    light: torch.Tensor
    """[1, 4, h, w]: linear light times opacity, and opacity in [0, 1]."""
    path: np.ndarray
    """[T * SUBSTEPS, 4]: position of its centre in the picture, pixels right and down; roll in radians; zoom."""
    border: str = "zeros"
    """What lies around it: nothing, or its mirror image."""


def film_scene(
    photos: list[
        np.ndarray
    ],  # uint8 [H, W, 3]; the first is the background, the others give the things before it
    rng: np.random.Generator,
    *,
    size: tuple[int, int],  # (height, width) of the clip
    frames: int,
    scene: Scene = Scene(),
) -> tuple[np.ndarray, np.ndarray]:
    """Return a blurry and a sharp clip, uint8 [T, height, width, 3] each; sharp is the middle of each exposure.

    Raises:
        ValueError: there is no photo, or one is smaller than half the clip.
    """
    if not photos or any(
        have < side // 2 for photo in photos for have, side in zip(photo.shape, size, strict=False)
    ):
        raise ValueError(f"a scene of {size[1]}x{size[0]} needs photos of at least half that size")
    still = bool(rng.random() < scene.still_rate)
    camera = np.zeros((frames * SUBSTEPS, 4)) if still else _camera_path(rng, frames, scene)
    layers = [_background(photos[0], camera, size, rng, scene)]
    count = int(rng.integers(scene.layers[0], scene.layers[1] + 1))
    for _ in range(max(count, 1) if still and scene.layers[1] else count):
        photo = photos[int(rng.integers(1, len(photos)))] if len(photos) > 1 else photos[0]
        layers.append(_thing(photo, camera, size, frames, rng, scene))
    largest = 0.0 if rng.random() < scene.sharp_rate else rng.uniform(*scene.exposure)
    changing = bool(rng.random() < scene.changing_rate)
    shares = [largest * rng.random() if changing else largest for _ in range(frames)]
    clips = [_expose(layers, frame, share, size) for frame, share in enumerate(shares)]
    return np.stack([blurry for blurry, _ in clips]), np.stack([sharp for _, sharp in clips])


def _camera_path(rng: np.random.Generator, frames: int, scene: Scene) -> np.ndarray:
    tremor = np.exp(rng.uniform(*np.log(np.maximum(scene.tremor, 1e-3))))
    jerks = 0.04 if rng.random() < 0.3 else 0.0
    return trajectory(rng, frames, Shake(tremor=tremor, drift=scene.drift * rng.random(), jerk_rate=jerks))


def _background(
    photo: np.ndarray, camera: np.ndarray, size: tuple[int, int], rng: np.random.Generator, scene: Scene
) -> _Layer:
    """A part of the photo that the camera does not leave where the photo is large enough."""
    shifts = np.abs(camera[:, :2]).max(0)[::-1]
    need = [int(side * 1.1 + 2 * shift) + 8 for side, shift in zip(size, shifts, strict=True)]
    light = _cut(photo, need, rng)
    if scene.defocus_rate and rng.random() < scene.defocus_rate:
        blurred = over_disc(light, _radius(rng, scene))
        light = light + (blurred - light) * one_side(*light.shape[2:], rng)
    light = torch.cat([light, torch.ones_like(light[:, :1])], 1)
    path = camera.copy()
    path[:, :2] = np.array([size[1], size[0]]) / 2 - camera[:, :2]
    return _Layer(light, path, "reflection")


def _thing(
    photo: np.ndarray,
    camera: np.ndarray,
    size: tuple[int, int],
    frames: int,
    rng: np.random.Generator,
    scene: Scene,
) -> _Layer:
    """Something with a soft outline, cut from a photo, that crosses the picture or trembles in it."""
    side = int(min(size) * np.exp(rng.uniform(np.log(0.12), np.log(0.6))))
    light = _cut(photo, (side, int(side * rng.uniform(0.6, 1.7))), rng)
    gain = torch.from_numpy(rng.uniform(0.5, 1.6, (1, 3, 1, 1))).float()
    opaque = _outline(*light.shape[2:], rng)
    light = torch.cat([(light * gain).clamp(0, 1) * opaque, opaque], 1)
    if scene.defocus_rate and rng.random() < scene.defocus_rate:
        light = over_disc(light, _radius(rng, scene), border="constant")
    steps = np.arange(frames * SUBSTEPS) / SUBSTEPS
    speed = np.exp(rng.uniform(*np.log(scene.speed)))
    angle = rng.choice([0, np.pi]) + rng.normal() * 0.5 if rng.random() < 0.6 else rng.uniform(0, 2 * np.pi)
    along = speed * (steps - rng.uniform(0, frames))
    if rng.random() < 0.35:  # to and fro, as limbs and balls go
        period = rng.uniform(6, 24)
        along = speed * period / (2 * np.pi) * np.sin(2 * np.pi * (steps / period + rng.random()))
    near = rng.uniform(1, 1.8)  # parallax
    path = camera * np.array([-near, -near, 1, 1])
    path[:, 0] += size[1] * rng.uniform(0.15, 0.85) + np.cos(angle) * along
    path[:, 1] += size[0] * rng.uniform(0.15, 0.85) + np.sin(angle) * along
    if rng.random() < 0.4:
        path[:, 2] += rng.normal() * 0.04 * steps
    return _Layer(light, path)


def _cut(photo: np.ndarray, need: tuple[int, int] | list[int], rng: np.random.Generator) -> torch.Tensor:
    """Linear light [1, 3, h, w] of a random part of the photo, mirrored at random, h and w as needed where it has them."""
    height, width = (min(side, have) for side, have in zip(need, photo.shape, strict=False))
    y, x = (
        int(rng.integers(have - side + 1)) for have, side in zip(photo.shape, (height, width), strict=False)
    )
    part = photo[y : y + height, x : x + width]
    part = part[:, ::-1] if rng.random() < 0.5 else part
    return torch.from_numpy(to_linear(part)).permute(2, 0, 1)[None]


def _radius(rng: np.random.Generator, scene: Scene) -> float:
    return float(np.exp(rng.uniform(*np.log(scene.defocus))))


def _outline(height: int, width: int, rng: np.random.Generator) -> torch.Tensor:
    """How opaque a thing is, [1, 1, height, width]: an ellipse or a rounded box with bulges and a soft rim."""
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle, power = np.arctan2(y, x), rng.choice([2.0, 2.0, 6.0])
    radius = (np.abs(x) ** power + np.abs(y) ** power) ** (1 / power)
    rim = np.full_like(radius, 0.9)
    for lobes in range(2, 7):
        rim += rng.normal() * 0.16 / lobes * np.cos(lobes * angle + rng.uniform(0, 2 * np.pi))
    softness = rng.uniform(1.0, 3.0) / max(4, min(height, width) / 2)  # one to three pixels
    return torch.from_numpy(np.clip((np.minimum(rim, 0.96) - radius) / softness + 0.5, 0, 1)).float()[
        None, None
    ]


def _expose(
    layers: list[_Layer], frame: int, share: float, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """One frame, uint8: the mean of the light while the shutter is open for a share of the interval, and its middle."""
    centre = frame * SUBSTEPS + SUBSTEPS // 2
    half = share * SUBSTEPS / 2
    first, last = round(centre - half), min(round(centre + half), frame * SUBSTEPS + SUBSTEPS - 1)
    moves = [np.abs(np.diff(layer.path[first : last + 1], axis=0)) @ WEIGHTS for layer in layers]
    lengths = [float(move.sum()) for move in moves]
    seen = [_place(layer, layer.path[centre], size) for layer in layers]
    sharp = from_linear(_stack(seen))
    if max(lengths) < 0.1:
        return sharp, sharp
    # Somewhat more than a view per pixel of travel, or there are ghosts.
    views = int(np.clip(np.ceil(1.2 * max(lengths)), 3, VIEWS))
    moments = np.unique(np.linspace(first, last, views).round().astype(int))
    mean = sum(
        _stack(
            [
                _place(layer, layer.path[moment], size) if length > 0.05 else still
                for layer, length, still in zip(layers, lengths, seen, strict=True)
            ]
        )
        for moment in moments
    )
    return from_linear(mean / len(moments)), sharp


def _stack(seen: list[torch.Tensor]) -> np.ndarray:
    """Linear light [height, width, 3] of layers [1, 4, height, width] as they lie in the picture, the nearest last."""
    picture = seen[0][:, :3]
    for layer in seen[1:]:
        picture = picture * (1 - layer[:, 3:]) + layer[:, :3]
    return picture[0].permute(1, 2, 0).numpy()


def _place(layer: _Layer, pose: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """A layer [1, 4, height, width] as it lies in the picture."""
    height, width = layer.light.shape[2:]
    rows, columns = size
    x, y, roll, zoom = pose
    cos, sin = np.cos(roll) * (1 + zoom), np.sin(roll) * (1 + zoom)
    # Picture pixels relative to the layer's centre -> layer pixels; affine_grid counts both in halves of a side.
    dx, dy = columns / 2 - x, rows / 2 - y
    theta = np.array(
        [
            [cos * columns / width, -sin * rows / width, 2 * (cos * dx - sin * dy) / width],
            [sin * columns / height, cos * rows / height, 2 * (sin * dx + cos * dy) / height],
        ]
    )
    grid = F.affine_grid(torch.from_numpy(theta).float()[None], [1, 4, rows, columns], align_corners=False)
    return F.grid_sample(layer.light, grid, mode="bilinear", padding_mode=layer.border, align_corners=False)
