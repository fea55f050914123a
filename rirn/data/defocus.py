"""Pictures, or parts of them, that are out of focus."""

from __future__ import annotations

import math

from rirn.lazy import Later

np = Later("numpy")
torch = Later("torch")
F = Later("torch.nn.functional")


def over_disc(light: torch.Tensor, radius: float, border: str = "replicate") -> torch.Tensor:
    """The mean over a disc around each pixel, as a lens out of focus gives it.

    Args:
        light: [N, C, H, W], linear light, or opacity.
        radius: of the disc, the circle of confusion; pixels.
        border: how the picture goes on beyond its border, a mode of ``torch.nn.functional.pad``.
    """
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = torch.from_numpy(np.clip(radius + 0.5 - np.hypot(y, x), 0, 1)).float()
    kernel = (disc / disc.sum()).expand(light.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(light, (reach,) * 4, mode=border), kernel, groups=light.shape[1])


def one_side(height: int, width: int, rng: np.random.Generator) -> torch.Tensor:
    """[height, width] in [0, 1]: 1 on one side of the picture, or all over, with a ramp to 0 on the other."""
    angle, steepness = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 4)
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    ramp = steepness * (np.cos(angle) * x + np.sin(angle) * y + rng.uniform(-0.5, 1.5))
    return torch.from_numpy(np.clip(ramp + 0.5, 0, 1)).float()
