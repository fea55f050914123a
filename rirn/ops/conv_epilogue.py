"""The epilogue of a library convolution as one op, for inference on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rirn.ops._library import library
from rirn.ops._transforms import is_differentiated, refuse_derivatives
from rirn.ops.backends import choose
from rirn.ops.spec import INFERENCE_OPS


def runs_conv_epilogue(tensors: Sequence[Tensor]) -> bool:
    """Whether :func:`conv_epilogue` can follow a convolution of these tensors: on a GPU with our kernels, with nothing to
    differentiate. A compiled program does its own fusing."""
    if choose("conv3x3_chain", tensors[0].device) != "cuda" or torch.compiler.is_compiling():
        return False
    return not is_differentiated(tensors)


def conv_epilogue(
    x: Tensor,  # [N, C, H, W], what a convolution without a bias returns
    bias: Tensor,  # [C]
    skip: Tensor | None,  # like x
    slope: float,
) -> Tensor:  # [N, C, H, W]
    """Compute ``act(x + bias [+ skip])`` in one pass, rounded once, with ``act(v) = v if v >= 0 else slope * v``.

    Torch adds a bias, adds a skip connection and rectifies in three separate passes. Call it only where
    :func:`runs_conv_epilogue` says so: the only kernel is for CUDA.
    """
    result: Tensor = torch.ops.rirn.conv_epilogue(x, bias, skip, float(slope))
    return result


def _fake(x: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(x)


INFERENCE_OPS.append("conv_epilogue")
if library().loaded and hasattr(torch.ops.rirn, "conv_epilogue"):
    torch.library.register_fake("rirn::conv_epilogue", _fake)
    refuse_derivatives(
        "conv_epilogue",
        "conv_epilogue has no derivative: conv3x3_chain leaves it out where a gradient is wanted",
    )
