"""What the launches of all Triton kernels share: dense tensors, the current device, sizes of tiles, and a sum
over rows."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rirn.kernels import jit, tl, triton
from rirn.kernels.aot import DTYPES, Variant, variant, wide_of

BLOCK = 1024  # elements a program holds of each tensor: eight a thread, two 128-bit loads in float32
CHANNELS = 32  # widest run of channels in a tile; one 64-byte line in half precision


def format_of(like: Tensor) -> torch.memory_format:
    """Return the layout that a kernel works in: channels_last if ``like`` is, otherwise contiguous."""
    nhwc = like.is_contiguous(memory_format=torch.channels_last) and not like.is_contiguous()
    return torch.channels_last if nhwc else torch.contiguous_format


def is_planar(layout: torch.memory_format) -> bool:
    return layout == torch.contiguous_format


def on(device: torch.device) -> contextlib.AbstractContextManager:
    """Make a GPU current for a launch; Triton launches on the current one, not on that of its arguments."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


_compiled: dict[Hashable, Any] = {}


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    tensors: Sequence[Tensor | None],
    sizes: Sequence[int],
    constants: tuple[Any, ...],
    warps: int = 4,
    stages: int = 3,
) -> None:
    """Launch a kernel of the form ``(*tensors, *sizes, *constants)``, all constexpr constants; the first tensor is not None.

    Triton takes some 30 us to inspect forty arguments and find their code. The result is cached here, keyed by all that it
    depends on: types, which addresses and sizes are multiples of 16, which sizes are 1, the constants, the device.
    """
    first = tensors[0]
    assert first is not None
    known = [None if t is None else (t.dtype, t.data_ptr() % 16 == 0) for t in tensors]
    kinds = [(size == 1, size % 16 == 0, size < 1 << 31) for size in sizes]
    key = (kernel, first.device, *known, *kinds, constants, warps, stages)
    with on(first.device):
        found = _compiled.get(key)
        if found is not None:
            found[grid](*tensors, *sizes, *constants)
            return
        found = kernel[grid](*tensors, *sizes, *constants, num_warps=warps, num_stages=stages)
    if found is not None:  # which Triton's interpreter returns
        _compiled[key] = found


def wide(dtype: torch.dtype) -> Any:
    """Return the Triton dtype that arithmetic on values of ``dtype`` is done in."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def dense(tensors: Sequence[Tensor], layout: torch.memory_format) -> list[Tensor]:
    """Return the [N, C, H, W] tensors in the layout, copying only those that are not."""
    return [t.contiguous(memory_format=layout) for t in tensors]


@contextlib.contextmanager
def written(results: Sequence[Tensor | None], layout: torch.memory_format) -> Iterator[list[Tensor | None]]:
    """Yield tensors in the layout for a kernel to write to: the results themselves if they have it,
    otherwise stand-ins that are copied to the results at the end. None stays None: a pointer that the kernel
    never touches."""
    targets = [
        r if r is None or r.is_contiguous(memory_format=layout) else torch.empty_like(r, memory_format=layout)
        for r in results
    ]
    yield targets
    for result, target in zip(results, targets, strict=True):
        if target is not result:
            result.copy_(target)


def tile_of(channels: int, planar: bool) -> dict[str, int]:
    """Return BLOCK_P and BLOCK_C of a tile of pixels x channels that is read in runs of neighbours."""
    block_c = 1 if planar else min(CHANNELS, triton.next_power_of_2(channels))
    return {"BLOCK_P": BLOCK // block_c, "BLOCK_C": block_c}


def output_mask_of(results: Sequence[Tensor | None]) -> int:
    """Return the integer whose bit i is set where result i is wanted."""
    return sum(1 << i for i, result in enumerate(results) if result is not None)


def launch_row(kernel: Any, inputs: Sequence[Tensor], results: Sequence[Tensor | None], like: Tensor) -> None:
    """Launch a kernel of the form ``(*inputs, *results, size, [OUTPUT_MASK,] WIDE, BLOCK)`` that reads tensors of one
    shape straight through, in the layout of ``like``."""
    layout, size = format_of(like), like.numel()
    constants = {"WIDE": wide(like.dtype), "BLOCK": BLOCK}
    if "OUTPUT_MASK" in kernel.arg_names:
        constants["OUTPUT_MASK"] = output_mask_of(results)
    with written(results, layout) as targets, on(like.device):
        kernel[(triton.cdiv(size, BLOCK),)](*dense(inputs, layout), *targets, size, **constants)


def row_variants(op: str, forward: Any, backward: Any, gradients: int) -> Iterator[Variant]:
    """Yield the specialisations of two kernels that :func:`launch_row` launches."""
    for dtype in DTYPES:
        constants = {"WIDE": wide_of(dtype), "BLOCK": BLOCK}
        yield variant(f"{op}_forward-{dtype}", forward, dtype, {"size": "i32"}, constants)
        output_mask = (1 << gradients) - 1
        yield variant(
            f"{op}_backward-{dtype}",
            backward,
            dtype,
            {"size": "i32"},
            {**constants, "OUTPUT_MASK": output_mask},
        )


def blend_variants(
    op: str,
    forward: Any,
    backward: Any,
    gates: Sequence[str],
    more: Mapping[str, Any],
    partial: bool = False,
) -> Iterator[Variant]:
    """Yield the specialisations of two kernels that blend features by gates: dtypes, layouts and kinds of gates that
    training meets.

    Args:
        op: name of the op.
        forward: forward kernel.
        backward: backward kernel, all of whose four gradients are wanted.
        gates: the constants that say whether there is one gate per pixel.
        more: additional constants.
        partial: whether the backward kernel writes sums, in float32 or better, to ``p_partial``.
    """
    for dtype in DTYPES:
        for planar, per_pixel in ((True, False), (True, True), (False, True)):
            if per_pixel and dtype in ("fp16", "fp64"):
                continue  # as bf16 and fp32 but for the width of loads, which the first form covers
            constants = {
                **more,
                "PLANAR": planar,
                **dict.fromkeys(gates, per_pixel),
                "WIDE": wide_of(dtype),
                **tile_of(32, planar),
            }
            sizes = {"pixels": "i32", "channels": "i32"}
            if not per_pixel:  # one long row: channels is 1, which Triton turns into a constant
                constants["channels"] = 1
                del sizes["channels"]
            layout, gate = "planar" if planar else "interleaved", "pixel" if per_pixel else "channel"
            label = f"{dtype}-{layout}-{gate}-gates"
            sums = {"p_partial": "fp64" if dtype == "fp64" else "fp32"} if partial else None
            yield variant(f"{op}_forward-{label}", forward, dtype, sizes, constants)
            constants = {**constants, "OUTPUT_MASK": 15}
            yield variant(f"{op}_backward-{label}", backward, dtype, sizes, constants, pointers=sums)


@jit
def _sum_rows(
    p_rows,  # [rows, columns]
    p_first,  # gets the sums of the columns before `border`
    p_second,  # gets the others
    rows,
    columns,
    border,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    i_c = tl.program_id(0).to(tl.int64) * BLOCK_C + tl.arange(0, BLOCK_C)
    total = tl.zeros((BLOCK_R, BLOCK_C), p_rows.dtype.element_ty)
    for start in range(0, rows, BLOCK_R):
        i_r = start + tl.arange(0, BLOCK_R)[:, None]
        mask = (i_r < rows) & (i_c < columns)[None, :]
        total += tl.load(p_rows + i_r.to(tl.int64) * columns + i_c[None, :], mask=mask, other=0.0)
    sums = tl.sum(total, 0)
    tl.store(p_first + i_c, sums.to(p_first.dtype.element_ty), mask=i_c < border)
    tl.store(
        p_second + (i_c - border),
        sums.to(p_second.dtype.element_ty),
        mask=(i_c >= border) & (i_c < columns),
    )


def sum_rows(rows: Tensor, first: Tensor, second: Tensor | None = None) -> None:
    """Add up the rows of a [rows, columns] tensor in a fixed order: the second step of every reduction over
    programs, which makes gradients bit-reproducible (float atomics would not).

    The sums go to ``first`` and, where they no longer fit, to ``second``, both dense.
    """
    count, columns = rows.shape
    tile = _rows_tile(columns)
    second = first if second is None else second
    grid = (triton.cdiv(columns, tile["BLOCK_C"]), 1, 1)
    launch(_sum_rows, grid, (rows, first, second), (count, columns, first.numel()), tuple(tile.values()))


def _rows_tile(columns: int) -> dict[str, int]:
    block_c = min(128, triton.next_power_of_2(columns))
    return {"BLOCK_R": BLOCK // block_c, "BLOCK_C": block_c}


def sum_variants() -> Iterator[Variant]:
    """Yield the specialisations of the sum over rows: one number, and as many as a layer has weights."""
    for dtype in DTYPES:
        rows = "fp64" if dtype == "fp64" else "fp32"
        for columns in (1, 128):
            sizes = {name: "i32" for name in ("rows", "columns", "border")}
            yield variant(
                f"sum_rows-{dtype}-{columns}",
                _sum_rows,
                dtype,
                sizes,
                _rows_tile(columns),
                pointers={"p_rows": rows},
                divisible=(),
            )
