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

    `info` describes the joined frames. A clip that players turn by a quarter is stored turned, so the parts
    are joined along the axis that ends up horizontal.
    """

    def __init__(self, info: VideoInfo):
        self._turns = round(info.rotation / 90) % 4
        shown_height = info.width if self._turns % 2 else info.height
        self._bar = _bar(shown_height)
        info = replace(info, has_alpha=False)
        if self._turns % 2:
            self.info = replace(info, height=2 * info.height + BAR)
        else:
            self.info = replace(info, width=2 * info.width + BAR)

    def join(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] twice -> uint8 [H', W', 3] of the size in `info`."""
        parts = [np.rot90(left, self._turns), self._bar, np.rot90(right, self._turns)]
        return np.ascontiguousarray(np.rot90(np.concatenate(parts, axis=1), -self._turns))


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
