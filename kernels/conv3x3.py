"""3x3 convolutions in Triton: the building block of ``conv3x3_chain``.

Implicit GEMM: a program holds the sums of BLOCK_M pixels x BLOCK_N output channels and loops over nine taps and
the channels of up to four inputs, which are read in place, as if concatenated. Bias, skip connection and
activation follow before the result is written, once. One launch per layer; images between layers are stored in
[N, H, W, C] order, whose runs of channels load in wide words.

The block sizes depend only on channels and dtype. Nothing is tuned by timing, so results repeat, the first
call is special only in that it compiles, and a CUDA graph can be captured after one warm-up call.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import DTYPES, Variant, variant, wide_of
from rirn.kernels.launch import launch, wide

MOST_INPUTS = 4


@jit
def _at_pixel(image, y, x, height, width, C: tl.constexpr, PLANAR: tl.constexpr, PHASES: tl.constexpr):
    """Return the offsets of pixels of an image with C channels; with PHASES, those four to a channel are the
    pixels of an image of twice the height and width."""
    base = image * height * width * C
    at = (y.to(tl.int64) * (2 * width) + x) * 2 if PHASES else y.to(tl.int64) * width + x
    return base + (at if PLANAR else at * (C // 4 if PHASES else C))


@jit
def _at_channel(c, height, width, C: tl.constexpr, PLANAR: tl.constexpr, PHASES: tl.constexpr):
    """Return what a channel adds to the offsets of :func:`_at_pixel`."""
    c = c.to(tl.int64)
    if PHASES:
        phase = (c % 4) // 2 * (2 * width) + c % 2
        return c // 4 * (4 * height) * width + phase if PLANAR else phase * (C // 4) + c // 4
    else:
        return c * height * width if PLANAR else c


@jit
def _accumulate(
    total,
    p_in,
    p_weight,
    image,
    y,
    x,
    is_pixel,
    height,
    width,
    o,
    FIRST: tl.constexpr,  # channel of the concatenation that this input begins with
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    PLANAR: tl.constexpr,
    PHASES: tl.constexpr,
    W_IN: tl.constexpr,  # strides of the weights: input channel, output channel, tap
    W_OUT: tl.constexpr,
    W_TAP: tl.constexpr,
    FLIP: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add what one input contributes."""
    BLOCKS: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
    for step in range(9 * BLOCKS):
        tap = step // BLOCKS
        c = (step % BLOCKS) * BLOCK_K + tl.arange(0, BLOCK_K)
        from_y = y + tap // 3 - 1
        from_x = x + tap % 3 - 1
        inside = is_pixel & (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
        at = (
            _at_pixel(image, from_y, from_x, height, width, C_IN, PLANAR, PHASES)[:, None]
            + _at_channel(c, height, width, C_IN, PLANAR, PHASES)[None, :]
        )
        values = tl.load(p_in + at, mask=inside[:, None] & (c < C_IN)[None, :], other=0.0)
        at_weight = (FIRST + c)[:, None] * W_IN + o[None, :] * W_OUT + (8 - tap if FLIP else tap) * W_TAP
        weights = tl.load(p_weight + at_weight, mask=(c < C_IN)[:, None] & (o < C_OUT)[None, :], other=0.0)
        total = tl.dot(values, weights, total, input_precision=PRECISION, out_dtype=total.dtype)
    return total


@jit
def _finish(
    total, p_bias, p_skip, p_gate, image, y, x, o, mask, height, width,
    C_OUT: tl.constexpr, SKIP_PLANAR: tl.constexpr, SKIP_PHASES: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_GATE: tl.constexpr, SLOPE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Return the sums with bias and skip connection, through the activation."""
    if HAS_BIAS:
        total += tl.load(p_bias + o, mask=o < C_OUT, other=0.0).to(WIDE)[None, :]
    if HAS_SKIP:
        at = (
            _at_pixel(image, y, x, height, width, C_OUT, SKIP_PLANAR, SKIP_PHASES)[:, None]
            + _at_channel(o, height, width, C_OUT, SKIP_PLANAR, SKIP_PHASES)[None, :]
        )
        total += tl.load(p_skip + at, mask=mask, other=0.0).to(WIDE)
    if HAS_GATE:
        at = _at_pixel(image, y, x, height, width, C_OUT, False, False)[:, None] + o[None, :]
        gate = tl.load(p_gate + at, mask=mask, other=0.0).to(WIDE)
        # As in torch, NaN gradients propagate.
        total = tl.where(gate <= 0, 0.0, total) if SLOPE == 0 else tl.where(gate > 0, total, SLOPE * total)
    elif SLOPE != 1:
        total = tl.where(total < 0, 0.0 if SLOPE == 0 else SLOPE * total, total)
    return total


@jit(do_not_specialize=("height",))  # which addresses do not depend on
def _conv(
    p_in0, p_in1, p_in2, p_in3, p_weight, p_bias,
    p_skip,  # added to the result in front of the activation
    p_gate,  # results of the activation that a gradient passes back through
    p_out, height, width,
    C0: tl.constexpr, C1: tl.constexpr, C2: tl.constexpr, C3: tl.constexpr,  # channels, 0 where there is no input
    C_OUT: tl.constexpr,
    IN_PLANAR: tl.constexpr, IN_PHASES: tl.constexpr, OUT_PLANAR: tl.constexpr, OUT_PHASES: tl.constexpr,
    SKIP_PLANAR: tl.constexpr, SKIP_PHASES: tl.constexpr,
    W_IN: tl.constexpr, W_OUT: tl.constexpr, W_TAP: tl.constexpr, FLIP: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_SKIP: tl.constexpr, HAS_GATE: tl.constexpr,
    SLOPE: tl.constexpr,  # of the activation below zero, or of the one that the gate is the result of
    WIDE: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(height * width, BLOCK_M)
    image = tl.program_id(0) // blocks
    pixel = (tl.program_id(0) - image * blocks) * BLOCK_M + tl.arange(0, BLOCK_M)
    image = image.to(tl.int64)
    y = pixel // width
    x = pixel % width
    is_pixel = y < height
    o = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
    total = _accumulate(
        total, p_in0, p_weight, image, y, x, is_pixel, height, width, o, 0, C0, C_OUT,
        IN_PLANAR, IN_PHASES, W_IN, W_OUT, W_TAP, FLIP, BLOCK_K, PRECISION,
    )  # fmt: skip
    if C1 > 0:
        total = _accumulate(
            total, p_in1, p_weight, image, y, x, is_pixel, height, width, o, C0, C1, C_OUT,
            IN_PLANAR, IN_PHASES, W_IN, W_OUT, W_TAP, FLIP, BLOCK_K, PRECISION,
        )  # fmt: skip
    if C2 > 0:
        total = _accumulate(
            total, p_in2, p_weight, image, y, x, is_pixel, height, width, o, C0 + C1, C2, C_OUT,
            IN_PLANAR, IN_PHASES, W_IN, W_OUT, W_TAP, FLIP, BLOCK_K, PRECISION,
        )  # fmt: skip
    if C3 > 0:
        total = _accumulate(
            total, p_in3, p_weight, image, y, x, is_pixel, height, width, o, C0 + C1 + C2, C3, C_OUT,
            IN_PLANAR, IN_PHASES, W_IN, W_OUT, W_TAP, FLIP, BLOCK_K, PRECISION,
        )  # fmt: skip
    mask = is_pixel[:, None] & (o < C_OUT)[None, :]
    total = _finish(
        total, p_bias, p_skip, p_gate, image, y, x, o, mask, height, width, C_OUT,
        SKIP_PLANAR, SKIP_PHASES, HAS_BIAS, HAS_SKIP, HAS_GATE, SLOPE, WIDE,
    )  # fmt: skip
    at = (
        _at_pixel(image, y, x, height, width, C_OUT, OUT_PLANAR, OUT_PHASES)[:, None]
        + _at_channel(o, height, width, C_OUT, OUT_PLANAR, OUT_PHASES)[None, :]
    )
    tl.store(p_out + at, total.to(p_out.dtype.element_ty), mask=mask)


class Image(NamedTuple):
    """A tensor as a layer sees it: ``channels`` of the layer, four to a channel of the tensor with ``phases``."""

    tensor: Tensor
    channels: int
    planar: bool = False
    phases: bool = False


def image_of(tensor: Tensor, phases: bool = False) -> Image:
    """Return a dense view of [N, C, H, W] that kernels can address, or a copy if there is none."""
    channels = tensor.shape[1] * (4 if phases else 1)
    if tensor.is_contiguous(memory_format=torch.channels_last):
        return Image(tensor, channels, False, phases)
    return Image(tensor.contiguous(), channels, True, phases)


def inputs_of(tensors: Sequence[Tensor], phases: bool) -> list[Image]:
    """Return the inputs of a layer in one layout, concatenated if there are more than a kernel takes."""
    if len(tensors) > MOST_INPUTS:
        tensors = [torch.cat(list(tensors), 1)]
    images = [image_of(tensor, phases) for tensor in tensors]
    if len({image.planar for image in images}) > 1:
        images = [
            Image(t.contiguous(memory_format=torch.channels_last), i.channels, False, phases)
            for t, i in zip(tensors, images, strict=True)
        ]
    return images


def between(like: Image, channels: int, height: int, width: int) -> Image:
    """Return new memory for the image between two layers, in [N, H, W, C] order."""
    shape = (like.tensor.shape[0], height, width, channels)
    return Image(like.tensor.new_empty(shape).permute(0, 3, 1, 2), channels)


class Blocks(NamedTuple):
    """Block sizes of ``_conv`` and options for its compiler."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


@functools.cache
def _blocks(channels_out: int, channels_in: int, dtype: torch.dtype | str) -> Blocks:
    """Half precision needs 16 in every direction. Without tensor cores tiles of 64 x 64 spill on sm_100 with 32 channels at once,
    narrower ones on sm_80 with 16."""
    block_n = min(64, max(16, triton.next_power_of_2(channels_out)))
    is_half = dtype in (torch.float16, torch.bfloat16, "fp16", "bf16")
    most = 64 if is_half else 16 if block_n == 64 else 32
    block_k = min(most, max(16, triton.next_power_of_2(channels_in)))
    return Blocks(128 if is_half else 64, block_n, block_k, 4, 3 if is_half else 2)


def readable(weight: Tensor) -> Tensor:
    """Return weights in channels_last, copied if necessary: kernels read adjacent channels in one go, but element by element
    if nine taps lie between them."""
    return weight.contiguous(memory_format=torch.channels_last)


def convolve(
    inputs: Sequence[Image],
    weight: Tensor,  # [out, in, 3, 3], readable
    bias: Tensor | None,
    out: Image,
    size: tuple[int, int],  # height and width of the layer
    slope: float,
    skip: Image | None = None,
) -> None:
    """Fill ``out`` with ``act(conv(inputs) + bias [+ skip])``."""
    bias = bias if bias is None else bias.contiguous()
    channels = weight.shape[1]
    _launch_conv(inputs, weight, (1, 9 * channels, channels, False), bias, out, size, slope, skip, None)


def convolve_back(
    grad: Image,
    weight: Tensor,  # readable
    first: int,
    out: Image,
    size: tuple[int, int],
    slope: float = 1.0,
    skip: Image | None = None,
    gate: Image | None = None,
) -> None:
    """Fill ``out`` with the gradient of the input channels from ``first`` on: the same convolution with the
    channels of the weights exchanged and their taps reversed, plus the gradient of the skip connection,
    through the activation of slope ``slope`` whose results are in ``gate``."""
    channels = weight.shape[1]
    strides = (9 * channels, 1, channels, True)
    _launch_conv([grad], weight[:, first:], strides, None, out, size, slope, skip, gate)


def _launch_conv(
    inputs: Sequence[Image],
    weight: Tensor,
    weight_strides: tuple[int, int, int, bool],
    bias: Tensor | None,
    out: Image,
    size: tuple[int, int],
    slope: float,
    skip: Image | None,
    gate: Image | None,
) -> None:
    none = [None] * (MOST_INPUTS - len(inputs))
    tensors = [*(image.tensor for image in inputs), *none, weight, bias]
    tensors += [None if image is None else image.tensor for image in (skip, gate)]
    channels = tuple(image.channels for image in inputs) + (0,) * len(none)
    blocks = _blocks(out.channels, max(channels), weight.dtype)
    constants = _constants(
        channels,
        out.channels,
        (inputs[0].planar, inputs[0].phases, out.planar, out.phases),
        (False, False) if skip is None else (skip.planar, skip.phases),
        weight_strides,
        (bias is not None, skip is not None, gate is not None),
        slope,
        wide(weight.dtype),
        blocks,
    )
    pixel_blocks = -(-size[0] * size[1] // blocks.m)
    grid = (out.tensor.shape[0] * pixel_blocks, -(-out.channels // blocks.n), 1)
    launch(_conv, grid, [*tensors, out.tensor], size, constants, blocks.warps, blocks.stages)


def _constants(
    channels: tuple[int, ...],
    channels_out: int,
    planes: tuple[bool, bool, bool, bool],  # of inputs and result: planar, phases
    skip: tuple[bool, bool],
    weight_strides: tuple[int, int, int, bool],
    has: tuple[bool, bool, bool],  # bias, skip, gate
    slope: float,
    wide_dtype: Any,
    blocks: Blocks,
) -> tuple[Any, ...]:
    """Return the constants of ``_conv`` in its order."""
    # float32 means float32, not TF32.
    sizes = (wide_dtype, blocks.m, blocks.n, blocks.k, "ieee")
    return (*channels, channels_out, *planes, *skip, *weight_strides, *has, float(slope), *sizes)


# Layers of the networks that ship, which inference runs: channels of the inputs and of the result, slope, skip connection, and
# whether the result lies in phases.
LAYERS = (
    *(((c,), c, 0.0, False, False) for c in (12, 16, 24, 32, 48, 64)),
    *(((c,), c, 1.0, True, False) for c in (12, 16, 24, 32, 48, 64)),
    *(((c, c), 2 * c, 0.0, False, False) for c in (12, 16)),
    *(((c,), c, 1.0, False, False) for c in (12, 16, 64)),
    *(((i,), o, 1.0, False, False) for i, o in ((24, 12), (24, 48), (32, 16), (32, 64))),
    *(((i,), o, 1.0, False, False) for i, o in ((48, 12), (48, 24), (64, 16), (64, 32))),
    *(((i,), o, 1.0, False, True) for i, o in ((48, 12), (48, 96), (64, 12), (64, 128))),
    ((64,), 64, 0.1, False, False),
    ((64, 64), 64, 1.0, False, False),
)


def layers() -> Iterator[Variant]:
    """Yield what steps of the shipped networks launch, in half precision and channels_last, at widths divisible by 16."""
    for dtype in ("bf16", "fp16"):
        for inputs, out, slope, skip, phases in LAYERS:
            name = (
                f"layer-{dtype}-{'+'.join(map(str, inputs))}-{out}-{slope}"
                + "-skip" * skip
                + "-phases" * phases
            )
            strides = (1, 9 * sum(inputs), sum(inputs), False)
            yield _variant(name, dtype, inputs, out, strides, (True, skip, False), slope, phases)


def _variant(
    name: str,
    dtype: str,
    inputs: Sequence[int],
    out: int,
    strides: tuple[int, int, int, bool],
    has: tuple[bool, bool, bool],
    slope: float,
    phases: bool = False,
) -> Variant:
    channels = (*inputs, *[0] * (MOST_INPUTS - len(inputs)))
    blocks = _blocks(out, max(channels), dtype)
    planes = (False, False, False, phases)
    constants = _constants(channels, out, planes, (False, False), strides, has, slope, wide_of(dtype), blocks)
    there = dict(zip(("p_bias", "p_skip", "p_gate"), has, strict=True))
    there |= {f"p_in{i}": count > 0 for i, count in enumerate(channels)}
    return variant(
        name,
        _conv,
        dtype,
        {"height": "i32", "width": "i32"},
        dict(zip(_conv.arg_names[-len(constants) :], constants, strict=True))
        | dict.fromkeys(name for name, is_there in there.items() if not is_there),
        divisible=("width",),
        warps=blocks.warps,
        stages=blocks.stages,
    )


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time: layers of IRM with one and two inputs, narrow and wide
    ones, forward and backward."""
    for dtype in DTYPES:
        for channels in ((16, 16), (32,), (40,), (64,)):
            if dtype == "fp64" and channels[0] != 32:
                continue
            c_in = sum(channels)
            for back in (False, True):
                if back and len(channels) > 1:
                    continue
                strides = (9 * c_in, 1, c_in, True) if back else (1, 9 * c_in, c_in, False)
                name = f"conv3x3_{'back' if back else 'forward'}-{dtype}-{'+'.join(map(str, channels))}"
                yield _variant(name, dtype, channels, c_in, strides, (not back, True, back), 0.0)
