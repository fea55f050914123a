"""Input and restored frame side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rirn.video.frames import VideoInfo

BAR = 16  # pixels of the separator; even, so that two frames and the bar have an even width
_LABEL = "input  |  restored"


class SideBySide:
    """Joins frames as the viewer sees them: input on the left, restored on the right, a labelled bar between.

    ``info`` describes the joined frames, which are upright: players need not turn or mirror them.
    """

    def __init__(self, info: VideoInfo):
        self._upright = info.upright
        shown = info.as_shown()
        self._bar = _bar(shown.height)
        self.info = replace(shown, width=2 * shown.width + BAR, has_alpha=False)

    def join(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """uint8 or uint16 [H, W, 3] twice -> [H', W', 3] of the size in ``info``."""
        bar = self._bar if left.dtype == np.uint8 else self._bar.astype(left.dtype) * 257
        return np.concatenate([self._upright(left), bar, self._upright(right)], axis=1)


def _bar(height: int) -> np.ndarray:
    """A grey bar [height, BAR, 3] with the label along it, if there is room."""
    font = ImageFont.load_default()
    left, top, right, bottom = (round(v) for v in font.getbbox(_LABEL))
    canvas = Image.new("RGB", (height, BAR), (64, 64, 64))
    if right - left <= height:
        at = ((height - right - left) // 2, (BAR - bottom - top) // 2)
        ImageDraw.Draw(canvas).text(at, _LABEL, font=font, fill=(255, 255, 255))
    # Read from bottom to top, the label names the left side first when the head is tilted left.
    return np.rot90(np.asarray(canvas), 1).copy()
