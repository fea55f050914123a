"""Gradients of the weights of 3x3 convolutions in Triton.

Each program sums a few thousand pixels, for one tap and a block of output and input channels; a second launch adds their sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import DTYPES, Variant, variant, wide_of
from rirn.kernels.conv3x3 import Image, _at_channel, _at_pixel
from rirn.kernels.launch import launch, sum_rows, sum_variants, wide

SPLIT = 4096  # pixels of one image whose share of a weight gradient one program adds up
BLOCK_P = 32


@jit
def _weight_gradient(
    p_in,
    p_grad,  # [N, H, W, C_OUT]
    p_partial,  # [programs of axis 0, columns]: the weights in their order, then the bias
    height,
    width,
    columns,
    FIRST: tl.constexpr,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    IN_PLANAR: tl.constexpr,
    IN_PHASES: tl.constexpr,
    W_IN: tl.constexpr,
    W_OUT: tl.constexpr,
    W_TAP: tl.constexpr,
    WIDE: tl.constexpr,
    SPLIT: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_O: tl.constexpr,
    BLOCK_I: tl.constexpr,
    PRECISION: tl.constexpr,
):
    splits = tl.cdiv(height * width, SPLIT)
    image = tl.program_id(0) // splits
    first_pixel = (tl.program_id(0) - image * splits) * SPLIT
    image = image.to(tl.int64)
    tap = tl.program_id(1)
    RUNS: tl.constexpr = (C_IN + BLOCK_I - 1) // BLOCK_I
    o = tl.program_id(2) // RUNS * BLOCK_O + tl.arange(0, BLOCK_O)
    c = tl.program_id(2) % RUNS * BLOCK_I + tl.arange(0, BLOCK_I)
    total = tl.zeros((BLOCK_O, BLOCK_I), WIDE)
    total_bias = tl.zeros((BLOCK_P, BLOCK_O), WIDE)
    for start in range(first_pixel, tl.minimum(first_pixel + SPLIT, height * width), BLOCK_P):
        pixel = start + tl.arange(0, BLOCK_P)
        y = pixel // width
        x = pixel % width
        at_grad = _at_pixel(image, y, x, height, width, C_OUT, False, False)[:, None] + o[None, :]
        grad = tl.load(p_grad + at_grad, mask=(y < height)[:, None] & (o < C_OUT)[None, :], other=0.0)
        from_y = y + tap // 3 - 1
        from_x = x + tap % 3 - 1
        inside = (y < height) & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        at = (
            _at_pixel(image, from_y, from_x, height, width, C_IN, IN_PLANAR, IN_PHASES)[:, None]
            + _at_channel(c, height, width, C_IN, IN_PLANAR, IN_PHASES)[None, :]
        )
        values = tl.load(p_in + at, mask=inside[:, None] & (c < C_IN)[None, :], other=0.0)
        total = tl.dot(tl.trans(grad), values, total, input_precision=PRECISION, out_dtype=total.dtype)
        total_bias += grad.to(WIDE)
    row = tl.program_id(0).to(tl.int64) * columns
    at = o[:, None] * W_OUT + (FIRST + c)[None, :] * W_IN + tap * W_TAP
    tl.store(p_partial + row + at, total, mask=(o < C_OUT)[:, None] & (c < C_IN)[None, :])
    if (FIRST == 0) & (tap == 0) & (tl.program_id(2) % RUNS == 0):
        tl.store(p_partial + row + (columns - C_OUT) + o, tl.sum(total_bias, 0), mask=o < C_OUT)


def _blocks(channels_out: int, channels_in: int) -> dict[str, int]:
    sizes = [min(32, max(16, triton.next_power_of_2(c))) for c in (channels_out, channels_in)]
    return {"BLOCK_P": BLOCK_P, "BLOCK_O": sizes[0], "BLOCK_I": sizes[1]}


def _strides(weight: Tensor) -> tuple[int, int, int]:
    """Return the strides of output channel, input channel and tap of dense weights."""
    channels = weight.shape[1]
    return (9 * channels, 9, 1) if weight.is_contiguous() else (9 * channels, 1, channels)


def weight_gradient(
    inputs: Sequence[Image],
    grad: Image,
    size: tuple[int, int],
    grad_weight: Tensor | None,
    grad_bias: Tensor | None,
) -> None:
    """Fill the gradients of weight [out, in, 3, 3] and bias [out] of a layer.

    This takes two steps, sums over a few thousand pixels each and then the sum of these, always in the same order:
    the gradients are bit-reproducible, which those of the library are only in its slower, deterministic mode.
    """
    n, c_out = grad.tensor.shape[0], grad.channels
    c_in = sum(image.channels for image in inputs)
    columns = 9 * c_in * c_out + c_out
    splits = n * triton.cdiv(size[0] * size[1], SPLIT)
    wide_dtype = torch.float64 if grad.tensor.dtype == torch.float64 else torch.float32
    partial = grad.tensor.new_empty((splits, columns), dtype=wide_dtype)
    dense = grad_weight
    if dense is None:
        dense = grad.tensor.new_empty(c_out, c_in, 3, 3)
    elif not (dense.is_contiguous() or dense.is_contiguous(memory_format=torch.channels_last)):
        dense = torch.empty_like(dense, memory_format=torch.contiguous_format)
    if grad_bias is None:
        grad_bias = grad.tensor.new_empty(c_out)
    w_out, w_in, w_tap = _strides(dense)
    first = 0
    for image in inputs:
        blocks = _blocks(c_out, image.channels)
        runs = [triton.cdiv(c, blocks[b]) for c, b in ((c_out, "BLOCK_O"), (image.channels, "BLOCK_I"))]
        constants = (
            *(first, image.channels, c_out, image.planar, image.phases, w_in, w_out, w_tap),
            *(wide(grad.tensor.dtype), SPLIT, *blocks.values(), "ieee"),
        )
        tensors = (image.tensor, grad.tensor, partial)
        launch(_weight_gradient, (splits, 9, runs[0] * runs[1]), tensors, (*size, columns), constants)
        first += image.channels
    sum_rows(partial, dense, grad_bias)
    if grad_weight is not None and dense is not grad_weight:
        grad_weight.copy_(dense)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time, narrow and wide."""
    for dtype in DTYPES:
        for c in (32,) if dtype == "fp64" else (32, 40, 64):
            yield variant(
                f"conv3x3_weights-{dtype}-{c}",
                _weight_gradient,
                dtype,
                {"height": "i32", "width": "i32", "columns": "i32"},
                {
                    "FIRST": 0,
                    "C_IN": c,
                    "C_OUT": c,
                    "IN_PLANAR": False,
                    "IN_PHASES": False,
                    "W_IN": 1,
                    "W_OUT": 9 * c,
                    "W_TAP": c,
                    "WIDE": wide_of(dtype),
                    "SPLIT": SPLIT,
                    "PRECISION": "ieee",
                    **_blocks(c, c),
                },
                pointers={"p_partial": "fp64" if dtype == "fp64" else "fp32"},
                divisible=("width",),
            )
    yield from sum_variants()
