"""What a reader delivers and a writer takes: frames, the facts about their stream, and the error of a broken one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from rirn.errors import RirnError

if TYPE_CHECKING:
    import numpy as np
    from av import VideoFrame

# ISO/IEC 23091-2 code points, the numbers FFmpeg and every container use.
MATRIX_RGB, MATRIX_BT709, MATRIX_UNSPECIFIED, MATRIX_SMPTE170M = 0, 1, 2, 6
PRIMARIES_BT709 = 1
TRANSFER_SRGB = 13
HDR_TRANSFERS = {16: "PQ transfer", 18: "HLG transfer"}
RANGE_UNSPECIFIED, RANGE_LIMITED, RANGE_FULL = 0, 1, 2

MOST_PIXELS = 1 << 28
"""Limit for a raw frame, about what FFmpeg allows; laying out tiles for a mistyped size takes minutes."""


@dataclass(frozen=True)
class Colour:
    """How to interpret the YUV samples of a stream; the numbers are the code points of ISO/IEC 23091-2.

    ``matrix`` 2 and ``range`` 0 mean that the stream does not say. The output of such a stream is untagged, too,
    so that a player makes the same guess for the restored video as for the input.
    """

    matrix: int = MATRIX_UNSPECIFIED
    primaries: int = 2
    transfer: int = 2
    range: int = RANGE_UNSPECIFIED

    def resolved_matrix(self, width: int, height: int) -> int:
        """The matrix to compute with: the tagged one, else BT.709 for HD and BT.601 below, as players do."""
        if self.matrix not in (MATRIX_RGB, MATRIX_UNSPECIFIED):
            return self.matrix
        return MATRIX_BT709 if width >= 1280 or height >= 720 else MATRIX_SMPTE170M

    def resolved_range(self) -> int:
        """RANGE_FULL if the stream says so, else RANGE_LIMITED."""
        return RANGE_FULL if self.range == RANGE_FULL else RANGE_LIMITED


# Images carry sRGB; written as video they become BT.709 YUV of limited range, which every player understands.
IMAGE_COLOUR = Colour(MATRIX_BT709, PRIMARIES_BT709, TRANSFER_SRGB, RANGE_LIMITED)


@dataclass(frozen=True)
class VideoInfo:
    """Everything about a stream of frames that is the same for all of them.

    ``width`` and ``height`` are the stored size in pixels; a player that honours ``display_matrix`` may show them
    turned by ``rotation`` degrees (counter-clockwise, -180..180). ``time_base`` is the unit of all time stamps in
    seconds, ``rate`` the average in frames per second, ``frames`` the number of frames the container states or
    its duration suggests (None: unknown), ``bits`` those of a sample.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    frames: int | None = None
    colour: Colour = IMAGE_COLOUR
    bits: int = 8
    has_alpha: bool = False
    sample_aspect_ratio: Fraction | None = None
    rotation: int = 0
    display_matrix: tuple[int, ...] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    stream_metadata: dict[str, str] = field(default_factory=dict)

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) of an upright picture."""
        size = (self.width, self.height)
        return size[::-1] if self.is_transposed else size

    @property
    def is_transposed(self) -> bool:
        """Whether an upright picture is as wide as the stored one is high."""
        return self.display_matrix is not None and abs(self.display_matrix[1]) > abs(self.display_matrix[0])

    def as_shown(self) -> VideoInfo:
        """The same for the pictures that ``upright`` returns, which players need not turn or mirror."""
        width, height = self.shown_size
        aspect = self.sample_aspect_ratio
        return replace(
            self,
            width=width,
            height=height,
            sample_aspect_ratio=1 / aspect if aspect and self.is_transposed else aspect,
            rotation=0,
            display_matrix=None,
        )

    def upright(self, picture: np.ndarray) -> np.ndarray:
        """A stored picture [H, W, ...] as a player shows it: turned by quarters and mirrored by the display matrix."""
        if self.display_matrix is None:
            return picture
        a, b, c, d = (self.display_matrix[i] for i in (0, 1, 3, 4))
        if self.is_transposed:
            picture, a, d = picture.swapaxes(0, 1), c, b
        return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def checked_rate(rate: Fraction | int) -> Fraction:
    """Return frames per second in numbers that containers and encoders can hold, off by less than a millionth.

    Raises:
        RirnError: it is not between 1/1000 and 1000.
    """
    rate = Fraction(rate)
    if not Fraction(1, 1000) <= rate <= 1000:  # Matroska counts milliseconds
        number = Decimal(rate.numerator) / rate.denominator  # no float holds 1e400
        raise RirnError(
            f"A frame rate of {number:.6g} frames per second is not possible; use one between 1/1000 and 1000"
        )
    return rate.limit_denominator(1_000_000)


def checked_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the width and height of raw frames.

    Raises:
        RirnError: a side is not above 0, or the frame is larger than any video.
    """
    width, height = size
    if min(width, height) < 1 or width * height > MOST_PIXELS:
        raise RirnError(
            f"Raw frames of {width}x{height} are not possible; give a size above 0 of at most {MOST_PIXELS:,} pixels"
        )
    return size


@dataclass(eq=False)
class Frame:
    """One picture with its place in time.

    ``rgb`` is full-range [H, W, 3]: uint8, or uint16 from a stream of more than 8 bits. ``pts`` and ``duration``
    count in units of ``time_base`` seconds; ``duration`` 0 means unknown. ``name`` is the stem of the image file the
    frame was read from, None for a video. ``alpha`` is [H, W] of the same dtype if there is transparency. ``captions``
    is a small picture with the closed captions of this one as side data, if any.
    """

    rgb: np.ndarray
    pts: int
    time_base: Fraction
    duration: int = 0
    name: str | None = None
    alpha: np.ndarray | None = None
    captions: VideoFrame | None = None


class BrokenStream(RirnError):
    """The input broke off or has damaged parts; ``frames`` good frames were delivered before this was raised."""

    def __init__(self, message: str, frames: int):
        super().__init__(message)
        self.frames = frames
