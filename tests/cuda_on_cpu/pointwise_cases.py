"""Cases around the limits of the kernels of pointwise.cuh, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.cuda_on_cpu.harness import Kernel, launches
from tests.ops.cases import Case
from tests.tolerances import NAMES

# Less than a pack of 2, 4 or 8 elements, around one at the end of a row, and more than a block's packs; rows of packs in two
# dimensions; no rows of packs.
TAILS = [
    *(Case(1, 1, 1, w) for w in (1, 3, 33)),
    *(Case(1, 1, 1, w, dtype) for dtype in NAMES.values() for w in (249, 255, 256, 1030, 2049)),
    *(Case(1, 3, 17, 13, dtype) for dtype in NAMES.values()),
    *(
        Case(2, 8, 3, 16, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    Case(2, 8, 3, 16, "fp16", "sliced"),
    Case(2, 8, 3, 15, "fp32", "strided"),
]
# Sums over channels in packs along the pixels and along the channels.
SUMS = [
    *(
        Case(2, c, 4, 16, dtype, layout, logits)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
        for c, logits in ((8, "11"), (40, "11"))
    ),
    Case(1, 3, 1, 8, "fp16", logits="11"),
    Case(1, 264, 1, 2, "fp32", "channels_last", "11"),
    Case(1, 20, 20, 24, "bf16", "contiguous", "11"),
    Case(1, 7, 20, 23, "fp32", "contiguous", "11"),
]
PACKS, ONE_BY_ONE, TOTALS = "pointwise<T, kPack<T>, Op>", "pointwise<T, 1, Op>", "sum_totals<T>"


def sums(pack: str, along_channels: bool) -> str:
    """The kernel that sums over the channels."""
    return f"pointwise_channel_sums<T, {pack}, {str(along_channels).lower()}, Op>"


def kernels(kernel: Kernel, case: Case, output_mask: int | None = None) -> Sequence[str]:
    """Return what a forward and a backward pass launch."""
    tensors = [t.detach() for t in kernel.make(case)]

    def both() -> None:
        outs = kernel.forward(tensors, case)
        kernel.backward([torch.ones_like(out) for out in outs], tensors, case, output_mask)

    return launches(both)
