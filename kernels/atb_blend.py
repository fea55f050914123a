"""Triton kernels of the adaptive temporal blend, and the torch ops that launch them.

One tile of pixels x channels per step. Where both logits have a value per channel, every tensor is read
straight through as one long row; where a logit has one value per pixel, a program keeps the gates of its
pixels and walks over the channels: a gate is then computed once, and its gradient is summed in registers, in
a fixed order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import Variant
from rirn.ops.atb_blend import register

BLOCK = 1024  # elements a program holds of each tensor: eight a thread, two 128-bit loads in float32
CHANNELS = 32  # widest run of channels in a tile; one 64-byte line in half precision


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
    i_p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    n = tl.program_id(1).to(tl.int64)
    is_pixel = i_p < pixels
    base = n * channels * pixels
    if PER_PIXEL_PREV:
        w_prev = tl.sigmoid(tl.load(p_logit_prev + n * pixels + i_p, mask=is_pixel, other=0.0).to(WIDE))
    if PER_PIXEL_CUR:
        w_cur = MAX_WEIGHT * tl.sigmoid(
            tl.load(p_logit_cur + n * pixels + i_p, mask=is_pixel, other=0.0).to(WIDE)
        )
    for start in range(0, channels, BLOCK_C):
        i_c = start + tl.arange(0, BLOCK_C)[None, :].to(tl.int64)
        mask = is_pixel & (i_c < channels)
        at = base + (i_c * pixels + i_p if PLANAR else i_p * channels + i_c)
        if not PER_PIXEL_PREV:
            w_prev = tl.sigmoid(tl.load(p_logit_prev + at, mask=mask, other=0.0).to(WIDE))
        if not PER_PIXEL_CUR:
            w_cur = MAX_WEIGHT * tl.sigmoid(tl.load(p_logit_cur + at, mask=mask, other=0.0).to(WIDE))
        f_prev = tl.load(p_f_prev + at, mask=mask, other=0.0).to(WIDE)
        f_cur = tl.load(p_f_cur + at, mask=mask, other=0.0).to(WIDE)
        tl.store(p_out + at, (w_prev * f_prev + w_cur * f_cur).to(p_out.dtype.element_ty), mask=mask)


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
    NEEDS: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    MAX_WEIGHT: tl.constexpr,
    PLANAR: tl.constexpr,
    PER_PIXEL_PREV: tl.constexpr,
    PER_PIXEL_CUR: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    i_p = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[:, None]
    n = tl.program_id(1).to(tl.int64)
    is_pixel = i_p < pixels
    base = n * channels * pixels
    if (NEEDS & 5) != 0 and PER_PIXEL_PREV:
        s_prev = tl.sigmoid(tl.load(p_logit_prev + n * pixels + i_p, mask=is_pixel, other=0.0).to(WIDE))
    if (NEEDS & 10) != 0 and PER_PIXEL_CUR:
        s_cur = tl.sigmoid(tl.load(p_logit_cur + n * pixels + i_p, mask=is_pixel, other=0.0).to(WIDE))
    if (NEEDS & 4) != 0 and PER_PIXEL_PREV:
        sum_prev = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    if (NEEDS & 8) != 0 and PER_PIXEL_CUR:
        sum_cur = tl.zeros((BLOCK_P, BLOCK_C), WIDE)
    for start in range(0, channels, BLOCK_C):
        i_c = start + tl.arange(0, BLOCK_C)[None, :].to(tl.int64)
        mask = is_pixel & (i_c < channels)
        at = base + (i_c * pixels + i_p if PLANAR else i_p * channels + i_c)
        grad = tl.load(p_grad + at, mask=mask, other=0.0).to(WIDE)
        if (NEEDS & 5) != 0 and not PER_PIXEL_PREV:
            s_prev = tl.sigmoid(tl.load(p_logit_prev + at, mask=mask, other=0.0).to(WIDE))
        if (NEEDS & 10) != 0 and not PER_PIXEL_CUR:
            s_cur = tl.sigmoid(tl.load(p_logit_cur + at, mask=mask, other=0.0).to(WIDE))
        if (NEEDS & 1) != 0:
            tl.store(p_grad_f_prev + at, (grad * s_prev).to(p_grad_f_prev.dtype.element_ty), mask=mask)
        if (NEEDS & 2) != 0:
            tl.store(
                p_grad_f_cur + at, (MAX_WEIGHT * grad * s_cur).to(p_grad_f_cur.dtype.element_ty), mask=mask
            )
        if (NEEDS & 4) != 0:
            f_prev = tl.load(p_f_prev + at, mask=mask, other=0.0).to(WIDE)
            slope_prev = grad * f_prev * s_prev * (1 - s_prev)
            if PER_PIXEL_PREV:
                sum_prev += slope_prev
            else:
                tl.store(p_grad_logit_prev + at, slope_prev.to(p_grad_logit_prev.dtype.element_ty), mask=mask)
        if (NEEDS & 8) != 0:
            f_cur = tl.load(p_f_cur + at, mask=mask, other=0.0).to(WIDE)
            slope_cur = MAX_WEIGHT * grad * f_cur * s_cur * (1 - s_cur)
            if PER_PIXEL_CUR:
                sum_cur += slope_cur
            else:
                tl.store(p_grad_logit_cur + at, slope_cur.to(p_grad_logit_cur.dtype.element_ty), mask=mask)
    if (NEEDS & 4) != 0 and PER_PIXEL_PREV:
        total = tl.sum(sum_prev, 1, keep_dims=True).to(p_grad_logit_prev.dtype.element_ty)
        tl.store(p_grad_logit_prev + n * pixels + i_p, total, mask=is_pixel)
    if (NEEDS & 8) != 0 and PER_PIXEL_CUR:
        total = tl.sum(sum_cur, 1, keep_dims=True).to(p_grad_logit_cur.dtype.element_ty)
        tl.store(p_grad_logit_cur + n * pixels + i_p, total, mask=is_pixel)


def _format(like: Tensor) -> torch.memory_format:
    nhwc = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return torch.channels_last if nhwc else torch.contiguous_format


def _launch_plan(
    f_cur: Tensor, logit_prev: Tensor, logit_cur: Tensor, layout: torch.memory_format, max_weight: float
):
    """Return the grid, the sizes and the compile-time constants that both kernels share."""
    n, c, h, w = f_cur.shape
    pixels = h * w
    per_pixel = [logit.shape[1] != c for logit in (logit_prev, logit_cur)]
    nchw = layout == torch.contiguous_format
    if not any(per_pixel):
        n, c, pixels, nchw = 1, 1, f_cur.numel(), True
    block_c = 1 if nchw else min(CHANNELS, triton.next_power_of_2(c))
    constants = {
        "MAX_WEIGHT": float(max_weight),
        "PLANAR": nchw,
        "PER_PIXEL_PREV": per_pixel[0],
        "PER_PIXEL_CUR": per_pixel[1],
        "WIDE": tl.float64 if f_cur.dtype == torch.float64 else tl.float32,
        "BLOCK_P": BLOCK // block_c,
        "BLOCK_C": block_c,
    }
    return (triton.cdiv(pixels, BLOCK // block_c), n), (pixels, c), constants


def _on(device: torch.device) -> contextlib.AbstractContextManager:
    """Make a GPU current for a launch; Triton launches on the current one, not on that of its arguments."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _dense(result: Tensor, layout: torch.memory_format) -> Tensor:
    """Return ``result`` if it has the layout, otherwise a stand-in for the kernel to write to."""
    return (
        result
        if result.is_contiguous(memory_format=layout)
        else torch.empty_like(result, memory_format=layout)
    )


@torch.library.custom_op("rirn::triton_atb_blend", mutates_args=())
def triton_atb_blend(
    f_prev: Tensor, f_cur: Tensor, logit_prev: Tensor, logit_cur: Tensor, max_weight: float
) -> Tensor:
    """Launch the forward kernel. Arguments as in :func:`rirn.ops.atb_blend`, already checked."""
    out = torch.empty_like(f_cur)
    if out.numel() == 0:
        return out
    layout = _format(f_cur)
    inputs = [t.contiguous(memory_format=layout) for t in (f_prev, f_cur, logit_prev, logit_cur)]
    target = _dense(out, layout)
    grid, sizes, constants = _launch_plan(f_cur, logit_prev, logit_cur, layout, max_weight)
    with _on(f_cur.device):
        _forward[grid](*inputs, target, *sizes, **constants)
    return out if target is out else out.copy_(target)


@torch.library.custom_op("rirn::triton_atb_blend_backward", mutates_args=())
def triton_atb_blend_backward(
    grad: Tensor,
    f_prev: Tensor,
    f_cur: Tensor,
    logit_prev: Tensor,
    logit_cur: Tensor,
    max_weight: float,
    needs: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the backward kernel; bit i of ``needs`` asks for gradient i, the others come back empty."""
    tensors = (f_prev, f_cur, logit_prev, logit_cur)
    results = [torch.empty_like(t) if needs >> i & 1 else t.new_empty(0) for i, t in enumerate(tensors)]
    if f_cur.numel() == 0:
        return tuple(result.zero_() for result in results)
    layout = _format(f_cur)
    inputs = [t.contiguous(memory_format=layout) for t in (grad, *tensors)]
    targets = [_dense(r, layout) if needs >> i & 1 else r for i, r in enumerate(results)]
    grid, sizes, constants = _launch_plan(f_cur, logit_prev, logit_cur, layout, max_weight)
    with _on(f_cur.device):
        _backward[grid](*inputs, *targets, *sizes, NEEDS=needs, **constants)
    return tuple(r if t is r else r.copy_(t) for r, t in zip(results, targets, strict=True))


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time: dtypes, layouts and kinds of gates that training
    meets."""
    for dtype, wide in (
        ("fp32", tl.float32),
        ("fp16", tl.float32),
        ("bf16", tl.float32),
        ("fp64", tl.float64),
    ):
        for planar, per_pixel in ((True, False), (True, True), (False, True)):
            if per_pixel and dtype in ("fp16", "fp64"):
                continue  # as bf16 and fp32 but for the width of loads, which the first form covers
            block_c = 1 if planar else CHANNELS
            constants = {
                "MAX_WEIGHT": 1.0,
                "PLANAR": planar,
                "PER_PIXEL_PREV": per_pixel,
                "PER_PIXEL_CUR": per_pixel,
                "WIDE": wide,
                "BLOCK_P": BLOCK // block_c,
                "BLOCK_C": block_c,
            }
            sizes = {"pixels": "i32", "channels": "i32"}
            divisible = ("pixels", "channels")
            if (
                not per_pixel
            ):  # one long row: the launch passes channels=1, which Triton turns into a constant
                constants["channels"] = 1
                del sizes["channels"]
                divisible = ("pixels",)
            label = (
                f"{dtype}-{'planar' if planar else 'interleaved'}-{'pixel' if per_pixel else 'channel'}-gates"
            )
            for kernel, extra in ((_forward, {}), (_backward, {"NEEDS": 15})):
                pointers = [name for name in kernel.arg_names if name.startswith("p_")]
                yield Variant(
                    f"atb_blend{kernel.__name__}-{label}",
                    kernel,
                    {**dict.fromkeys(pointers, f"*{dtype}"), **sizes},
                    {**constants, **extra},
                    (*pointers, *divisible),
                )


register("triton_atb_blend")
