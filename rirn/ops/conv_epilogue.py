"""What follows a convolution of the library, as one op, for inference on CUDA."""

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
    """Whether :func:`conv_epilogue` can run behind a convolution of these tensors: on a GPU with kernels of ours, with nothing to
    differentiate. A compiled program is left to fuse for itself."""
    if choose("conv3x3_chain", tensors[0].device) != "cuda" or torch.compiler.is_compiling():
        return False
    return not is_differentiated(tensors)


def conv_epilogue(
    x: Tensor,  # [N, C, H, W], what a convolution without a bias returns
    bias: Tensor,  # [C]
    skip: Tensor | None,  # like x
    slope: float,
) -> Tensor:  # [N, C, H, W]
    """``act(x + bias [+ skip])`` in one pass and rounded once, with ``act(v) = v if v >= 0 else slope * v``.

    The library adds a bias, adds a skip connection and rectifies in a pass each. Only where :func:`runs_conv_epilogue` says
    so: there is a CUDA kernel and no other.
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
