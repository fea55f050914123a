"""Triton kernels of the update of an LSTM.

The four gates of a channel are a quarter of a row apart. A row is an image, [4C * P], or for channels_last a
pixel, [4C]; the same addressing works for both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import DTYPES, Variant, variant, wide_of
from rirn.kernels.device import load, store, tanh
from rirn.kernels.launch import BLOCK, dense, format_of, is_planar, on, output_mask_of, wide, written


@jit
def _tile(rows, size, BLOCK_R: tl.constexpr, BLOCK_S: tl.constexpr):
    """Return offsets [BLOCK_R, BLOCK_S] into the cell and into the four gates, and the mask."""
    runs = (size - 1) // BLOCK_S + 1  # as in pixel_tile
    block = tl.program_id(0) // runs
    i_r = block.to(tl.int64) * BLOCK_R + tl.arange(0, BLOCK_R)[:, None]
    i_s = (tl.program_id(0) - block * runs).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)[None, :]
    at_i = i_r * size * 4 + i_s
    at_f = at_i + size
    at_o = at_f + size
    return i_r * size + i_s, at_i, at_f, at_o, at_o + size, (i_r < rows) & (i_s < size)


@jit
def _forward(
    p_gates,  # [rows, 4, size]  logits of i, f, o and g
    p_cell,  # [rows, size]
    p_new_hidden,
    p_new_cell,
    rows,
    size,
    WIDE: tl.constexpr,  # dtype of the arithmetic
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    at, at_i, at_f, at_o, at_g, mask = _tile(rows, size, BLOCK_R, BLOCK_S)
    i = tl.sigmoid(load(p_gates, at_i, mask, WIDE))
    f = tl.sigmoid(load(p_gates, at_f, mask, WIDE))
    o = tl.sigmoid(load(p_gates, at_o, mask, WIDE))
    g = tanh(load(p_gates, at_g, mask, WIDE))
    cell = f * load(p_cell, at, mask, WIDE) + i * g
    store(p_new_hidden, at, o * tanh(cell), mask)
    store(p_new_cell, at, cell, mask)


@jit
def _backward(
    p_grad_hidden,
    p_grad_new_cell,
    p_gates,
    p_cell,
    p_grad_gates,
    p_grad_cell,
    rows,
    size,
    OUTPUT_MASK: tl.constexpr,  # bit i: gradient i is wanted; the pointers of the others are never touched
    WIDE: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    at, at_i, at_f, at_o, at_g, mask = _tile(rows, size, BLOCK_R, BLOCK_S)
    i = tl.sigmoid(load(p_gates, at_i, mask, WIDE))
    f = tl.sigmoid(load(p_gates, at_f, mask, WIDE))
    o = tl.sigmoid(load(p_gates, at_o, mask, WIDE))
    g = tanh(load(p_gates, at_g, mask, WIDE))
    cell = load(p_cell, at, mask, WIDE)
    squashed = tanh(f * cell + i * g)
    grad_hidden = load(p_grad_hidden, at, mask, WIDE)
    grad_cell = load(p_grad_new_cell, at, mask, WIDE) + grad_hidden * o * (1 - squashed * squashed)
    if (OUTPUT_MASK & 1) != 0:
        store(p_grad_gates, at_i, grad_cell * g * i * (1 - i), mask)
        store(p_grad_gates, at_f, grad_cell * cell * f * (1 - f), mask)
        store(p_grad_gates, at_o, grad_hidden * squashed * o * (1 - o), mask)
        store(p_grad_gates, at_g, grad_cell * i * (1 - g * g), mask)
    if (OUTPUT_MASK & 2) != 0:
        store(p_grad_cell, at, grad_cell * f, mask)


def _tiling(size: int) -> dict[str, int]:
    block_s = min(BLOCK // 2, triton.next_power_of_2(size))  # half, as eight tensors are held at once
    return {"BLOCK_R": BLOCK // 2 // block_s, "BLOCK_S": block_s}


def _launch(
    kernel, inputs: Sequence[Tensor], results: Sequence[Tensor | None], cell: Tensor, **output_mask
) -> None:
    layout = format_of(cell)
    n, c, h, w = cell.shape
    rows, size = (n, c * h * w) if is_planar(layout) else (n * h * w, c)
    tile = _tiling(size)
    grid = (triton.cdiv(rows, tile["BLOCK_R"]) * triton.cdiv(size, tile["BLOCK_S"]),)
    with written(results, layout) as targets, on(cell.device):
        kernel[grid](
            *dense(inputs, layout), *targets, rows, size, WIDE=wide(cell.dtype), **tile, **output_mask
        )


def forward(new_hidden: Tensor, new_cell: Tensor, gates: Tensor, cell: Tensor) -> None:
    """Fill both states. Arguments as in :func:`rirn.ops.lstm_update`, already checked, of at least one
    element."""
    _launch(_forward, (gates, cell), (new_hidden, new_cell), cell)


def backward(
    grads: Sequence[Tensor | None], grad_hidden: Tensor, grad_cell: Tensor, gates: Tensor, cell: Tensor
) -> None:
    """Fill the gradients of the two tensors that are not None."""
    _launch(_backward, (grad_hidden, grad_cell, gates, cell), grads, cell, OUTPUT_MASK=output_mask_of(grads))


def variants() -> Iterator[Variant]:
    """Yield the specialisations to compile ahead of time: both layouts in every dtype."""
    for dtype in DTYPES:
        for name, size in (("planar", 1 << 20), ("interleaved", 32)):
            constants = {"WIDE": wide_of(dtype), **_tiling(size)}
            sizes = {"rows": "i32", "size": "i32"}
            yield variant(
                f"lstm_update_forward-{dtype}-{name}", _forward, dtype, sizes, constants, divisible=("size",)
            )
            yield variant(
                f"lstm_update_backward-{dtype}-{name}",
                _backward,
                dtype,
                sizes,
                {**constants, "OUTPUT_MASK": 3},
                divisible=("size",),
            )
