"""Triton kernels of the dynamic temporal blend, on the tiles of ``atb_blend``.

The gradient of beta is one number: every program writes the sum over its tile, and a second, small launch adds
these up in a fixed order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import Variant
from rirn.kernels.device import channel_run, load, pixel_tile, store, tanh
from rirn.kernels.launch import (
    blend_variants,
    dense,
    format_of,
    is_planar,
    on,
    output_mask_of,
    sum_rows,
    sum_variants,
    tile_of,
    wide,
    written,
)


@jit
def _weight(value, beta):
    """Return the weight of f_cur, clamped, and whether a gradient passes the clamp; a NaN stays one."""
    raw = tl.abs(value) + beta
    return tl.where(raw < 0, 0.0, tl.where(raw > 1, 1.0, raw)), (raw >= 0) & (raw <= 1)


@jit
def _forward(
    p_f_prev,  # pointers to dense tensors; the features in [N, C, P] or, for channels_last, [N, P, C] order
    p_f_cur,
    p_logit,  # order of the features, or [N, P] where PER_PIXEL
    p_beta,
    p_out,
    pixels,  # P = H * W
    channels,  # C
    PLANAR: tl.constexpr,  # True for [N, C, P]
    PER_PIXEL: tl.constexpr,
    WIDE: tl.constexpr,  # dtype of the arithmetic
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, i_p, is_pixel = pixel_tile(pixels, BLOCK_P)
    beta = tl.load(p_beta).to(WIDE)
    if PER_PIXEL:
        weight, _ = _weight(tanh(load(p_logit, n * pixels + i_p, is_pixel, WIDE)), beta)
    for start in range(0, channels, BLOCK_C):
        at, mask = channel_run(n, i_p, is_pixel, start, channels, pixels, PLANAR, BLOCK_C)
        if not PER_PIXEL:
            weight, _ = _weight(tanh(load(p_logit, at, mask, WIDE)), beta)
        f_prev = load(p_f_prev, at, mask, WIDE)
        f_cur = load(p_f_cur, at, mask, WIDE)
        store(p_out, at, weight * f_cur + (1 - weight) * f_prev, mask)


@jit
def _backward(
    p_grad,
    p_f_prev,
    p_f_cur,
    p_logit,
    p_beta,
    p_grad_f_prev,
    p_grad_f_cur,
    p_grad_logit,
    p_partial,  # [programs]  sums of the gradient of beta, in the wide dtype
    pixels,
    channels,
    OUTPUT_MASK: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    PLANAR: tl.constexpr,
    PER_PIXEL: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    n, i_p, is_pixel = pixel_tile(pixels, BLOCK_P)
    i_gate = n * pixels + i_p
    beta = tl.load(p_beta).to(WIDE)
    if PER_PIXEL:
        value = tanh(load(p_logit, i_gate, is_pixel, WIDE))
        weight, passes = _weight(value, beta)
    if (OUTPUT_MASK & 12) != 0:
        total = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    for start in range(0, channels, BLOCK_C):
        at, mask = channel_run(n, i_p, is_pixel, start, channels, pixels, PLANAR, BLOCK_C)
        grad = load(p_grad, at, mask, WIDE)
        if not PER_PIXEL:
            value = tanh(load(p_logit, at, mask, WIDE))
            weight, passes = _weight(value, beta)
        if (OUTPUT_MASK & 1) != 0:
            store(p_grad_f_prev, at, grad * (1 - weight), mask)
        if (OUTPUT_MASK & 2) != 0:
            store(p_grad_f_cur, at, grad * weight, mask)
        if (OUTPUT_MASK & 12) != 0:
            change = grad * (load(p_f_cur, at, mask, WIDE) - load(p_f_prev, at, mask, WIDE))
            change = tl.where(passes & mask, change, 0.0)
            total += change
            if (OUTPUT_MASK & 4) != 0 and not PER_PIXEL:
                sign = (value > 0).to(WIDE) - (value < 0).to(WIDE)
                store(p_grad_logit, at, change * sign * (1 - value * value), mask)
    if (OUTPUT_MASK & 4) != 0 and PER_PIXEL:
        sign = (value > 0).to(WIDE) - (value < 0).to(WIDE)
        slope = tl.sum(total, 1, keep_dims=True) * sign * (1 - value * value)
        store(p_grad_logit, i_gate, slope, is_pixel)
    if (OUTPUT_MASK & 8) != 0:
        tl.store(p_partial + tl.program_id(0), tl.sum(tl.sum(total, 1), 0))


def _plan(
    f_cur: Tensor, logit: Tensor, layout: torch.memory_format
) -> tuple[tuple[int], tuple[int, int], dict[str, Any]]:
    """Return the grid, the sizes and the compile-time constants that both kernels share."""
    n, c, h, w = f_cur.shape
    pixels, planar, per_pixel = h * w, is_planar(layout), logit.shape[1] != c
    if not per_pixel:
        n, c, pixels, planar = 1, 1, f_cur.numel(), True
    tile = tile_of(c, planar)
    constants = {"PLANAR": planar, "PER_PIXEL": per_pixel, "WIDE": wide(f_cur.dtype), **tile}
    return (n * triton.cdiv(pixels, tile["BLOCK_P"]),), (pixels, c), constants


def forward(out: Tensor, f_prev: Tensor, f_cur: Tensor, logit: Tensor, beta: Tensor) -> None:
    """Fill ``out``. Arguments as in :func:`rirn.ops.dtb_blend`, already checked, of at least one element."""
    layout = format_of(f_cur)
    inputs = dense((f_prev, f_cur, logit), layout)
    grid, sizes, constants = _plan(f_cur, logit, layout)
    with written([out], layout) as targets, on(out.device):
        _forward[grid](*inputs, beta, *targets, *sizes, **constants)


def backward(
    grads: Sequence[Tensor | None], grad: Tensor, f_prev: Tensor, f_cur: Tensor, logit: Tensor, beta: Tensor
) -> None:
    """Fill the gradients of the four tensors that are not None."""
    *images, grad_beta = grads
    layout = format_of(f_cur)
    inputs = dense((grad, f_prev, f_cur, logit), layout)
    grid, sizes, constants = _plan(f_cur, logit, layout)
    partial = None
    if grad_beta is not None:
        partial = grad.new_empty(
            (*grid, 1), dtype=torch.float64 if grad.dtype == torch.float64 else torch.float32
        )
    with written(images, layout) as targets, on(grad.device):
        _backward[grid](
            *inputs, beta, *targets, partial, *sizes, OUTPUT_MASK=output_mask_of(grads), **constants
        )
    if partial is not None:
        sum_rows(partial, grad_beta)


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time."""
    yield from blend_variants("dtb_blend", _forward, _backward, ("PER_PIXEL",), {}, partial=True)
    yield from sum_variants()
