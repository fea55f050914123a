"""Maps of the weights with which a network blends its features over time, frame by frame."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from PIL import Image

from rirn.devices import pick_device
from rirn.errors import RirnError
from rirn.nn import Blending, blending_modules, watch_blending
from rirn.video.frames import Frame, VideoInfo
from rirn.video.restore import Restorer, to_tensor
from rirn.video.scenes import CutDetector

# Viridis (Smith and van der Walt), whose lightness rises uniformly: every 32nd of its 256 colours.
_VIRIDIS = (
    *((68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141)),
    *((39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)),
)
# Share of the values beyond each end of the scale: a few outliers would make everything else one colour.
_LEFT_OUT = 0.005


class GateMaps:
    """Runs a model over frames as ``deblur`` does, and keeps the channel means of the weights w~ and w of each.

    Args:
        model: a network that blends features by ATB or DTB.
        device: device to run it on.

    Raises:
        RirnError: the model has neither, or there is no such device.
    """

    names = ("w~", "w")

    def __init__(self, model: Any, device: str | torch.device = "cpu"):
        self._device = pick_device(device)
        self._model = model.to(self._device).eval()
        self._stride = model.stride
        self.model_name: str = model.config["name"]
        if not blending_modules(model):
            raise RirnError(
                f"--maps needs a model that blends features over time (+atb, +rirn, +dtb, or strcnn), not {self.model_name}"
            )
        self._restorer = Restorer(self._model, self._device, torch.float32, CutDetector())
        self._size = (0, 0)
        self._ends: list[tuple[float, float]] = []
        self._maps: list[np.ndarray] = []

    def add(self, frame: Frame) -> None:
        """Run the model on the next frame."""
        self._size = frame.rgb.shape[:2]
        with watch_blending(self._model, self._note):
            self._restorer.feed(frame, to_tensor(frame, self._device))

    def end(self) -> None:
        """Let the model process the frames that it holds back."""
        with watch_blending(self._model, self._note):
            self._restorer.end()

    def _note(self, blending: Blending) -> None:
        means = torch.stack([weights[0].float().mean(0) for weights in blending.maps()])
        self._ends.append((means.quantile(_LEFT_OUT).item(), means.quantile(1 - _LEFT_OUT).item()))
        self._maps.append(means.half().cpu().numpy())

    def __len__(self) -> int:
        return len(self._maps)

    def scale(self) -> tuple[float, float]:
        """Return the values of the first and last colour, the same for both weights and all frames."""
        low, high = min(low for low, _ in self._ends), max(high for _, high in self._ends)
        return (low, high) if high > low else (low, low + 1e-3)

    def means(self, number: int) -> tuple[float, float]:
        """Return the means of w~ and w over a frame."""
        prev, cur = self._maps[number].astype(np.float32).mean((1, 2))
        return float(prev), float(cur)

    def png(self, number: int, which: int, info: VideoInfo) -> str:
        """Return the map of w~ (0) or w (1) as a base64 PNG, at the size of the frame and oriented as a player shows it."""
        low, high = self.scale()
        levels = (self._maps[number][which].astype(np.float32) - low) / (high - low)
        index = np.rint(levels.clip(0, 1) * 255).astype(np.uint8)
        index = index.repeat(self._stride, 0).repeat(self._stride, 1)[: self._size[0], : self._size[1]]
        picture = Image.fromarray(np.ascontiguousarray(info.upright(index)))
        picture.putpalette(palette().tobytes())
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        return base64.b64encode(buffer.getvalue()).decode("ascii")


def palette() -> np.ndarray:
    """uint8 [256, 3], from low to high."""
    stops = np.linspace(0, 255, len(_VIRIDIS))
    return np.stack(
        [np.interp(np.arange(256), stops, c).round() for c in zip(*_VIRIDIS, strict=True)], 1
    ).astype(np.uint8)
