"""Convert between the YUV pictures of a stream and RGB arrays, by the stream's own matrix and range."""

from __future__ import annotations

import functools
import operator

import numpy as np

from rirn.video import pyav as av
from rirn.video.frames import MATRIX_RGB, Colour

# swscale's matrix for each matrix code point that it can compute; the others are read as BT.601, like
# swscale's own default.
SWS_MATRIX = {
    1: "ITU709",
    4: "FCC",
    5: "ITU601",
    6: "SMPTE170M",
    7: "SMPTE240M",
    9: "BT2020",
    10: "BT2020",
}
# Without the two FULL_CHR flags swscale replicates and drops chroma samples: 42 instead of 53 dB on a smooth
# 720p picture there and back, for about the same time.
SWS_FLAGS = ("BILINEAR", "ACCURATE_RND", "FULL_CHR_H_INT", "FULL_CHR_H_INP")


def _sws_matrix(code: int) -> av.video.reformatter.Colorspace:
    return av.video.reformatter.Colorspace[SWS_MATRIX.get(code, "DEFAULT")]


@functools.cache
def _sws_flags() -> av.video.reformatter.Interpolation:
    return functools.reduce(operator.or_, (av.video.reformatter.Interpolation[name] for name in SWS_FLAGS))


def holds_rgb(picture: av.VideoFrame) -> bool:
    """Whether the samples of a decoded picture are RGB, or palette indices, and need no matrix."""
    return picture.format.is_rgb or picture.format.has_palette or picture.colorspace == MATRIX_RGB


class FromPicture:
    """Turns decoded pictures into RGB [H, W, 3]: uint8, or uint16 from more than 8 bits per sample."""

    def __init__(self, colour: Colour, bits: int):
        # Planar: swscale's way from 4:2:0 to packed 16-bit RGB wraps bright and dark samples around.
        self._colour, self._format = colour, "rgb24" if bits <= 8 else "gbrp16le"
        self._scale = av.video.reformatter.VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        # The range is the picture's own, and limited where it has none.
        options = {}
        if not holds_rgb(picture):
            matrix = self._colour.resolved_matrix(picture.width, picture.height)
            options["src_colorspace"] = _sws_matrix(matrix)
        rgb = self._scale.reformat(
            picture,
            format=self._format,
            interpolation=_sws_flags(),
            dst_color_range=av.video.reformatter.ColorRange.JPEG,
            **options,
        )
        # A copy of its own: the array would otherwise keep FFmpeg's padded buffer alive.
        return np.array(rgb.to_ndarray(), order="C")


def alpha_of(picture: av.VideoFrame) -> np.ndarray:
    """The transparency [H, W] of a picture that has some: uint8, or uint16 from more than 8 bits per sample."""
    deep = max(component.bits for component in picture.format.components) > 8
    plane = picture.reformat(format="gbrap16le" if deep else "gbrap").planes[3]
    values = np.frombuffer(plane, np.uint16 if deep else np.uint8)
    wide = plane.line_size // values.itemsize
    return values.reshape(-1, wide)[: picture.height, : picture.width].copy()


def captions_of(picture: av.VideoFrame) -> av.VideoFrame:
    """A small picture with the side data of another: PyAV cannot add side data, but keeps it when scaling."""
    return picture.reformat(width=16, height=16, format="yuv420p")


class ToPicture:
    """Turns full-range RGB [H, W, 3], uint8 or uint16, into pictures of ``pix_fmt``; opaque without [H, W] alpha.

    The side data of ``captions`` is copied.
    """

    def __init__(self, colour: Colour, width: int, height: int, pix_fmt: str):
        self._colour, self._pix_fmt = colour, pix_fmt
        self._matrix = _sws_matrix(colour.resolved_matrix(width, height))
        self._scale = av.video.reformatter.VideoReformatter()

    def __call__(
        self, rgb: np.ndarray, alpha: np.ndarray | None = None, captions: av.VideoFrame | None = None
    ) -> av.VideoFrame:
        if alpha is not None:
            rgb = np.dstack([rgb, alpha])
        packed = ("rgb24", "rgb48le") if alpha is None else ("rgba", "rgba64le")
        picture = self._scale.reformat(
            av.VideoFrame.from_ndarray(rgb, packed[rgb.dtype != np.uint8]),
            format=self._pix_fmt,
            interpolation=_sws_flags(),
            src_color_range=av.video.reformatter.ColorRange.JPEG,
            dst_colorspace=self._matrix,
            dst_color_range=av.video.reformatter.ColorRange(self._colour.resolved_range()),
        )
        if captions is not None:
            picture = _with_side_data(picture, captions)
        picture.colorspace, picture.color_range = self._colour.matrix, self._colour.range
        return picture


def _with_side_data(picture: av.VideoFrame, other: av.VideoFrame) -> av.VideoFrame:
    """A picture with the samples of one and the side data of another."""
    made = other.reformat(width=picture.width, height=picture.height, format=picture.format.name)
    made.make_writable()
    made.pict_type = 0  # an encoder would make it what the other one was
    for plane, samples in zip(made.planes, picture.planes, strict=True):
        rows = np.frombuffer(samples, np.uint8).reshape(samples.height, samples.line_size)
        into = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
        width = min(samples.line_size, plane.line_size)
        into[:, :width] = rows[:, :width]
    return made
