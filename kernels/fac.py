"""Triton kernels of the filter adaptive convolution.

A tile is a run of pixels, times a run of channels if the layout is channels_last. Every value of
the filters, which are 25 times as large as the features, is loaded once; the features come from the L1
cache 24 times out of 25.

The gradient of the features is gathered, not scattered, so it needs no atomics: an inner pixel is read by
25 pixels. One at the edge is also read on behalf of the replicated pixels beyond it; only tiles with an edge
loop over those, as extra rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import DTYPES, Variant, variant, wide_of
from rirn.kernels.device import load, store
from rirn.kernels.launch import CHANNELS, dense, format_of, is_planar, on, wide, written

BLOCK = (
    256  # pixels x channels of a tile: two a thread, as a thread holds 25 filter values of each on its way
)


@jit
def _tile(channels, height, width, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr):
    """Return image [scalar], row and column [BLOCK_P, 1], channel [1, BLOCK_C] and the mask of a program."""
    blocks = tl.cdiv(height * width, BLOCK_P)
    runs = tl.cdiv(channels, BLOCK_C)
    row = tl.program_id(0) // blocks
    pixel = (tl.program_id(0) - row * blocks) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    c = (row % runs) * BLOCK_C + tl.arange(0, BLOCK_C)[None, :]
    y = pixel // width
    return (row // runs).to(tl.int64), y, pixel - y * width, c, (y < height) & (c < channels)


@jit
def _steps(n, c, channels, height, width, PLANAR: tl.constexpr):
    """Return the offsets of the first pixel of features and of filters, what one pixel adds to each, and what one
    tap adds to that of filters."""
    pixels = tl.cast(height, tl.int64) * width
    one = tl.full((), 1, tl.int64)
    if PLANAR:
        plane = (n * channels + c) * pixels
        return plane, plane * 25, one, one, pixels
    else:
        first = n * pixels * channels + c
        return first, n * pixels * channels * 25 + c * 25, one * channels, one * channels * 25, one


@jit
def _forward(
    p_features,
    p_kernels,
    p_out,
    channels,
    height,
    width,
    WIDE: tl.constexpr,  # dtype of the sums
    PLANAR: tl.constexpr,  # True for [N, C, H, W] order, else [N, H, W, C]
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, y, x, c, mask = _tile(channels, height, width, BLOCK_P, BLOCK_C)
    first, first_kernel, step, step_kernel, step_tap = _steps(n, c, channels, height, width, PLANAR)
    at_kernel = first_kernel + (y * width + x) * step_kernel
    total = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    for i in tl.static_range(5):
        row = tl.minimum(tl.maximum(y + (i - 2), 0), height - 1) * width
        for j in tl.static_range(5):
            column = tl.minimum(tl.maximum(x + (j - 2), 0), width - 1)
            feature = load(p_features, first + (row + column) * step, mask, WIDE)
            total += feature * load(p_kernels, at_kernel + (5 * i + j) * step_tap, mask, WIDE)
    store(p_out, first + (y * width + x) * step, total, mask)


@jit
def _backward_kernels(
    p_grad,
    p_features,
    p_grad_kernels,
    channels,
    height,
    width,
    WIDE: tl.constexpr,
    PLANAR: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, y, x, c, mask = _tile(channels, height, width, BLOCK_P, BLOCK_C)
    first, first_kernel, step, step_kernel, step_tap = _steps(n, c, channels, height, width, PLANAR)
    at_kernel = first_kernel + (y * width + x) * step_kernel
    grad = load(p_grad, first + (y * width + x) * step, mask, WIDE)
    for i in tl.static_range(5):
        row = tl.minimum(tl.maximum(y + (i - 2), 0), height - 1) * width
        for j in tl.static_range(5):
            column = tl.minimum(tl.maximum(x + (j - 2), 0), width - 1)
            feature = load(p_features, first + (row + column) * step, mask, WIDE)
            store(p_grad_kernels, at_kernel + (5 * i + j) * step_tap, grad * feature, mask)


@jit
def _first(beyond):
    """Return the first row or column of the filters that reach pixels so far beyond an edge."""
    return tl.where(beyond > 0, beyond + 2, 0)


@jit
def _last(beyond):
    return tl.where(beyond < 0, beyond + 2, 4)


@jit
def _backward_features(
    p_grad,
    p_kernels,
    p_grad_features,
    channels,
    height,
    width,
    WIDE: tl.constexpr,
    PLANAR: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, y, x, c, mask = _tile(channels, height, width, BLOCK_P, BLOCK_C)
    first, first_kernel, step, step_kernel, step_tap = _steps(n, c, channels, height, width, PLANAR)
    at = first + (y * width + x) * step
    at_kernel = first_kernel + (y * width + x) * step_kernel
    total = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    # How far beyond the four edges the replicas of this tile's pixels lie: of most tiles there are none.
    top = tl.min(tl.where(y == 0, -2, 0))
    bottom = tl.max(tl.where(y == height - 1, 2, 0))
    left = tl.min(tl.where(x == 0, -2, 0))
    right = tl.max(tl.where(x == width - 1, 2, 0))
    for beyond_y in range(top, bottom + 1):
        of_y = mask & ((beyond_y >= 0) | (y == 0)) & ((beyond_y <= 0) | (y == height - 1))
        # The further out a replica lies, the fewer rows of a filter reach it.
        for i in range(_first(beyond_y), _last(beyond_y) + 1):
            down = beyond_y + 2 - i  # rows from here to the pixel that reads this one
            reads_y = of_y & (y + down >= 0) & (y + down < height)
            for beyond_x in range(left, right + 1):
                of_x = reads_y & ((beyond_x >= 0) | (x == 0)) & ((beyond_x <= 0) | (x == width - 1))
                for j in range(_first(beyond_x), _last(beyond_x) + 1):
                    right_by = beyond_x + 2 - j
                    reads = of_x & (x + right_by >= 0) & (x + right_by < width)
                    apart = down * width + right_by
                    kernel = load(
                        p_kernels, at_kernel + ((5 * i + j) * step_tap + apart * step_kernel), reads, WIDE
                    )
                    total += kernel * load(p_grad, at + apart * step, reads, WIDE)
    store(p_grad_features, at, total, mask)


def _tiling(channels: int, planar: bool) -> dict[str, int]:
    block_c = 1 if planar else min(CHANNELS, triton.next_power_of_2(channels))
    return {"BLOCK_P": BLOCK // block_c, "BLOCK_C": block_c}


def _launch(kernel: Any, inputs: Sequence[Tensor], result: Tensor, like: Tensor) -> None:
    layout = format_of(like)
    n, c, h, w = like.shape
    tile = _tiling(c, is_planar(layout))
    grid = (n * triton.cdiv(c, tile["BLOCK_C"]) * triton.cdiv(h * w, tile["BLOCK_P"]),)
    constants = {"WIDE": wide(like.dtype), "PLANAR": is_planar(layout), **tile}
    with written([result], layout) as targets, on(like.device):
        kernel[grid](*dense(inputs, layout), *targets, c, h, w, **constants)


def forward(out: Tensor, features: Tensor, kernels: Tensor) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.fac`, already checked, of at least one element."""
    _launch(_forward, (features, kernels), out, features)


def backward(grads: Sequence[Tensor | None], grad: Tensor, features: Tensor, kernels: Tensor) -> None:
    """Fill the gradients of the two tensors that are not None, one launch each."""
    grad_features, grad_kernels = grads
    if grad_features is not None:
        _launch(_backward_features, (grad, kernels), grad_features, features)
    if grad_kernels is not None:
        _launch(_backward_kernels, (grad, features), grad_kernels, features)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time: both layouts, wide rows."""
    for dtype in DTYPES:
        for planar in (True, False):
            if not planar and dtype == "fp64":
                continue
            constants = {"WIDE": wide_of(dtype), "PLANAR": planar, **_tiling(32, planar)}
            sizes = {"channels": "i32", "height": "i32", "width": "i32"}
            for kernel in (_forward, _backward_features, _backward_kernels):
                label = f"fac{kernel.__name__}-{dtype}-{'planar' if planar else 'interleaved'}"
                yield variant(label, kernel, dtype, sizes, constants)
