"""High-speed video made from ordinary video: frames between frames, by optical flow.

Averaging the frames of 24 to 60 fps footage directly gives several ghosts of everything that moves; with enough frames in
between it gives blur.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from rirn.data.parallel import map_ahead
from rirn.data.synthesis import GAMMA, from_linear, to_linear
from rirn.errors import RirnError
from rirn.lazy import Later

np, torch, F = Later("numpy"), Later("torch"), Later("torch.nn.functional")

TOLERANCE = 1.5
"""Pixels by which flow there and back may miss its start before a pixel counts as occluded in the other frame."""


def interpolate_frames(
    frames: Iterable[np.ndarray],  # uint8 [H, W, 3] each, consecutive frames without a cut
    factor: int,  # frame intervals afterwards for one before
    gamma: float = GAMMA,
    workers: int = 0,  # threads that compute flow
) -> Iterator[np.ndarray]:
    """Yield the frames with ``factor - 1`` interpolated ones, uint8 [H, W, 3], between each two.

    The flow is scikit-image's TV-L1, both ways; pixels are moved along it in linear light, and where one is occluded in one
    of the two frames the other frame counts more.

    Raises:
        RirnError: scikit-image is not installed.
    """
    frames = iter(frames)
    last = next(frames, None)
    if last is None:
        return
    pairs = itertools.pairwise(itertools.chain([last], frames))
    for between in map_ahead(lambda pair: _Between(*pair, gamma), pairs, workers):
        yield between.frames[0]
        yield from (from_linear(between.at(i / factor), gamma) for i in range(1, factor))
        last = between.frames[1]
    yield last


class _Between:
    """What lies between two frames."""

    def __init__(self, before: np.ndarray, after: np.ndarray, gamma: float):
        self.frames = (before, after)
        self._light = [_planes(to_linear(frame, gamma)) for frame in self.frames]
        self._flows = [_flow(before, after), _flow(after, before)]
        there, back = self._flows
        self._visible = [
            torch.exp(-0.5 * ((f + _warp(g, f)) / TOLERANCE).square().sum(1, keepdim=True)) + 1e-3
            for f, g in ((there, back), (back, there))
        ]

    def at(self, t: float) -> np.ndarray:
        """Linear light [H, W, 3] at a share 0 < t < 1 of the interval."""
        there, back = self._flows
        # Flow from time t to either frame, assuming constant velocity.
        to_before = t * (t * back - (1 - t) * there)
        to_after = (1 - t) * ((1 - t) * there - t * back)
        total = weights = 0
        for light, visible, flow, share in zip(
            self._light, self._visible, (to_before, to_after), (1 - t, t), strict=True
        ):
            weight = share * _warp(visible, flow)
            total = total + weight * _warp(light, flow, "bicubic").clamp(0, 1)
            weights = weights + weight
        return (total / weights)[0].permute(1, 2, 0).numpy()


def _planes(image: np.ndarray) -> torch.Tensor:
    """[H, W, C] -> [1, C, H, W]."""
    return torch.from_numpy(image).permute(2, 0, 1)[None]


def _flow(start: np.ndarray, end: np.ndarray) -> torch.Tensor:
    """Where each pixel of one frame went in another: [1, 2, H, W], pixels to the right and down."""
    try:
        from skimage.registration import optical_flow_tvl1
    except ModuleNotFoundError as error:
        raise RirnError("frames between frames need scikit-image: pip install 'rirn[synth]'") from error
    greys = [frame.mean(2, dtype=np.float32) / 255 for frame in (start, end)]
    return torch.from_numpy(optical_flow_tvl1(*greys, dtype=np.float32)[::-1].copy())[None]


def _warp(image: torch.Tensor, flow: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """[1, C, H, W] sampled where the flow [1, 2, H, W] leads from each pixel; the border is replicated outside."""
    _, _, height, width = image.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    # grid_sample counts in half images from the centre, with pixels as areas.
    x = (2 * (columns + flow[:, 0]) + 1) / width - 1
    y = (2 * (rows + flow[:, 1]) + 1) / height - 1
    grid = torch.stack([x, y], -1)
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)
