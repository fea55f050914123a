"""Triton kernels of the adaptive temporal blend.

One tile of pixels x channels per step. If both logits have a value per channel, every tensor is read
straight through as one long row; if a logit has one value per pixel, a program keeps the gates of its
pixels and loops over the channels: each gate is then computed once, and its gradient is summed in registers,
in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import Variant
from rirn.kernels.device import channel_run, load, pixel_tile, store
from rirn.kernels.launch import (
    blend_variants,
    dense,
    format_of,
    is_planar,
    on,
    output_mask_of,
    tile_of,
    wide,
    written,
)


@jit
def _forward(
    p_f_prev,  # pointers to dense tensors; the features in [N, C, P] or, for channels_last, [N, P, C] order
    p_f_cur,
    p_logit_prev,  # order of the features, or [N, P] where PER_PIXEL_PREV
    p_logit_cur,
    p_out,
    pixels,  # P = H * W
    channels,  # C
    MAX_WEIGHT: tl.constexpr,  # a constant, since Triton would round a scalar argument to float32
    PLANAR: tl.constexpr,  # True for [N, C, P]
    PER_PIXEL_PREV: tl.constexpr,
    PER_PIXEL_CUR: tl.constexpr,
    WIDE: tl.constexpr,  # dtype of the arithmetic
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, i_p, is_pixel = pixel_tile(pixels, BLOCK_P)
    if PER_PIXEL_PREV:
        w_prev = tl.sigmoid(load(p_logit_prev, n * pixels + i_p, is_pixel, WIDE))
    if PER_PIXEL_CUR:
        w_cur = MAX_WEIGHT * tl.sigmoid(load(p_logit_cur, n * pixels + i_p, is_pixel, WIDE))
    for start in range(0, channels, BLOCK_C):
        at, mask = channel_run(n, i_p, is_pixel, start, channels, pixels, PLANAR, BLOCK_C)
        if not PER_PIXEL_PREV:
            w_prev = tl.sigmoid(load(p_logit_prev, at, mask, WIDE))
        if not PER_PIXEL_CUR:
            w_cur = MAX_WEIGHT * tl.sigmoid(load(p_logit_cur, at, mask, WIDE))
        f_prev = load(p_f_prev, at, mask, WIDE)
        f_cur = load(p_f_cur, at, mask, WIDE)
        store(p_out, at, w_prev * f_prev + w_cur * f_cur, mask)


@jit
def _backward(
    p_grad,
    p_f_prev,
    p_f_cur,
    p_logit_prev,
    p_logit_cur,
    p_grad_f_prev,
    p_grad_f_cur,
    p_grad_logit_prev,
    p_grad_logit_cur,
    pixels,
    channels,
    OUTPUT_MASK: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    MAX_WEIGHT: tl.constexpr,
    PLANAR: tl.constexpr,
    PER_PIXEL_PREV: tl.constexpr,
    PER_PIXEL_CUR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, i_p, is_pixel = pixel_tile(pixels, BLOCK_P)
    i_gate = n * pixels + i_p
    if (OUTPUT_MASK & 5) != 0 and PER_PIXEL_PREV:
        s_prev = tl.sigmoid(load(p_logit_prev, i_gate, is_pixel, WIDE))
    if (OUTPUT_MASK & 10) != 0 and PER_PIXEL_CUR:
        s_cur = tl.sigmoid(load(p_logit_cur, i_gate, is_pixel, WIDE))
    if (OUTPUT_MASK & 4) != 0 and PER_PIXEL_PREV:
        sum_prev = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    if (OUTPUT_MASK & 8) != 0 and PER_PIXEL_CUR:
        sum_cur = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    for start in range(0, channels, BLOCK_C):
        at, mask = channel_run(n, i_p, is_pixel, start, channels, pixels, PLANAR, BLOCK_C)
        grad = load(p_grad, at, mask, WIDE)
        if (OUTPUT_MASK & 5) != 0 and not PER_PIXEL_PREV:
            s_prev = tl.sigmoid(load(p_logit_prev, at, mask, WIDE))
        if (OUTPUT_MASK & 10) != 0 and not PER_PIXEL_CUR:
            s_cur = tl.sigmoid(load(p_logit_cur, at, mask, WIDE))
        if (OUTPUT_MASK & 1) != 0:
            store(p_grad_f_prev, at, grad * s_prev, mask)
        if (OUTPUT_MASK & 2) != 0:
            store(p_grad_f_cur, at, MAX_WEIGHT * grad * s_cur, mask)
        if (OUTPUT_MASK & 4) != 0:
            slope_prev = grad * load(p_f_prev, at, mask, WIDE) * s_prev * (1 - s_prev)
            if PER_PIXEL_PREV:
                sum_prev += slope_prev
            else:
                store(p_grad_logit_prev, at, slope_prev, mask)
        if (OUTPUT_MASK & 8) != 0:
            slope_cur = MAX_WEIGHT * grad * load(p_f_cur, at, mask, WIDE) * s_cur * (1 - s_cur)
            if PER_PIXEL_CUR:
                sum_cur += slope_cur
            else:
                store(p_grad_logit_cur, at, slope_cur, mask)
    if (OUTPUT_MASK & 4) != 0 and PER_PIXEL_PREV:
        store(p_grad_logit_prev, i_gate, tl.sum(sum_prev, 1, keep_dims=True), is_pixel)
    if (OUTPUT_MASK & 8) != 0 and PER_PIXEL_CUR:
        store(p_grad_logit_cur, i_gate, tl.sum(sum_cur, 1, keep_dims=True), is_pixel)


def _plan(
    f_cur: Tensor, logits: Sequence[Tensor], layout: torch.memory_format, max_weight: float
) -> tuple[tuple[int], tuple[int, int], dict[str, Any]]:
    """Return the grid, the sizes and the compile-time constants that both kernels share."""
    n, c, h, w = f_cur.shape
    pixels = h * w
    per_pixel = [logit.shape[1] != c for logit in logits]
    planar = is_planar(layout)
    if not any(per_pixel):
        n, c, pixels, planar = 1, 1, f_cur.numel(), True
    tile = tile_of(c, planar)
    constants = {
        "MAX_WEIGHT": float(max_weight),
        "PLANAR": planar,
        "PER_PIXEL_PREV": per_pixel[0],
        "PER_PIXEL_CUR": per_pixel[1],
        "WIDE": wide(f_cur.dtype),
        **tile,
    }
    return (n * triton.cdiv(pixels, tile["BLOCK_P"]),), (pixels, c), constants


def forward(
    out: Tensor, f_prev: Tensor, f_cur: Tensor, logit_prev: Tensor, logit_cur: Tensor, max_weight: float
) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.atb_blend`, already checked, of at least one element."""
    layout = format_of(f_cur)
    inputs = dense((f_prev, f_cur, logit_prev, logit_cur), layout)
    grid, sizes, constants = _plan(f_cur, inputs[2:], layout, max_weight)
    with written([out], layout) as targets, on(out.device):
        _forward[grid](*inputs, *targets, *sizes, **constants)


def backward(
    grads: Sequence[Tensor | None],
    grad: Tensor,
    f_prev: Tensor,
    f_cur: Tensor,
    logit_prev: Tensor,
    logit_cur: Tensor,
    max_weight: float,
) -> None:
    """Fill the gradients of the four tensors that are not None."""
    layout = format_of(f_cur)
    inputs = dense((grad, f_prev, f_cur, logit_prev, logit_cur), layout)
    grid, sizes, constants = _plan(f_cur, inputs[3:], layout, max_weight)
    with written(grads, layout) as targets, on(grad.device):
        _backward[grid](*inputs, *targets, *sizes, OUTPUT_MASK=output_mask_of(grads), **constants)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    gates = ("PER_PIXEL_PREV", "PER_PIXEL_CUR")
    yield from blend_variants("atb_blend", _forward, _backward, gates, {"MAX_WEIGHT": 1.0})
