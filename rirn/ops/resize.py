"""Halving and doubling the size of images, for networks at half resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.ops._library import library
from rirn.ops._transforms import is_differentiated, refuse_derivatives
from rirn.ops.backends import choose
from rirn.ops.spec import INFERENCE_OPS

NAMES = ("halve", "enlarge_onto")


def halve(images: Tensor, shift: float) -> Tensor:
    """Average squares of 2x2 pixels and subtract ``shift``: [M, C, H, W], H and W even, -> [M, C, H/2, W/2]."""
    if _runs_kernel([images]):
        small: Tensor = torch.ops.rirn.halve(images, float(shift))
        return small
    return _resized(images, 0.5) - shift


def enlarge_onto(image: Tensor, onto: Tensor, scale: float) -> Tensor:
    """Add ``scale`` times ``image`` [M, C, H, W], bilinearly enlarged to twice its size, to ``onto`` [M, C, 2 H, 2 W]."""
    if _runs_kernel([image, onto]):
        result: Tensor = torch.ops.rirn.enlarge_onto(image, onto, float(scale))
        return result
    return _resized(image * scale, 2).add_(onto)  # in place: fresh memory would cost as much again


def _resized(images: Tensor, scale: float) -> Tensor:
    """Channel by channel, because PyTorch converts images of three channels to channels-last order and back, on one thread,
    which takes longer than resizing them."""
    m, c, h, w = images.shape
    resized = F.interpolate(images.reshape(m * c, 1, h, w), scale_factor=scale, mode="bilinear")
    return resized.view(m, c, *resized.shape[2:])


def _runs_kernel(images: Sequence[Tensor]) -> bool:
    """Dense float32 on the CPU with nothing to differentiate; a compiled program does its own fusing."""
    if torch.compiler.is_compiling() or choose("conv3x3_chain", images[0].device) != "cpu":
        return False
    if any(x.dtype != torch.float32 or not x.is_contiguous() for x in images):
        return False
    return not is_differentiated(images)


def _fake_halve(images: Tensor, shift: float) -> Tensor:
    m, c, h, w = images.shape
    return images.new_empty(m, c, h // 2, w // 2)


INFERENCE_OPS.extend(NAMES)
if library().loaded and hasattr(torch.ops.rirn, NAMES[0]):
    torch.library.register_fake("rirn::halve", _fake_halve)
    torch.library.register_fake("rirn::enlarge_onto", lambda image, onto, scale: torch.empty_like(onto))
    for name in NAMES:
        refuse_derivatives(name, f"{name} has no derivative: call it from rirn.ops.resize")
