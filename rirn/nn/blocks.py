"""Convolution blocks that the published recurrent deblurrers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rirn import ops


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution, stride 1, zero padding 1, bias: [N, in, H, W] -> [N, out, H, W]."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def run_chain(
    inputs: Sequence[Tensor],  # [N, C_k, H, W] each
    layers: Sequence[nn.Conv2d],
    slopes: Sequence[float],
    skips: Sequence[bool] | None = None,
) -> Tensor:  # [N, C, H, W]
    """Run layers made by :func:`conv3` as one op, see :func:`rirn.ops.conv3x3_chain`."""
    return ops.conv3x3_chain(inputs, *weights_and_biases(layers), slopes, skips or [False] * len(layers))


def weights_and_biases(layers: Sequence[nn.Conv2d]) -> tuple[list[Tensor], list[Tensor]]:
    """Weights and biases of layers, as ops take them."""
    return [layer.weight for layer in layers], [bias_of(layer) for layer in layers]


def bias_of(layer: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """The bias of a layer that was made with one."""
    assert layer.bias is not None
    return layer.bias


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does both, with the norm's running statistics."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], (bias_of(conv) - norm.running_mean) * scale + norm.bias


class ResBlock(nn.Module):
    """``x + conv3(act(conv3(x)))`` on [N, C, H, W], nothing after the sum (IFI-RNN's block).

    Args:
        channels: C.
        slope: slope of the activation below zero; 0 is ReLU.
    """

    def __init__(self, channels: int, slope: float = 0.0):
        super().__init__()
        self.slope = slope
        self.conv1 = conv3(channels, channels)
        self.conv2 = conv3(channels, channels)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Several images are read as if concatenated along the channels."""
        return run_chain([x, *others], [self.conv1, self.conv2], [self.slope, 1], [False, True])


class StateUpdate(nn.Sequential):
    """``conv3(Res(conv3(x)))``, [N, in, H, W] -> [N, out, H, W]: F_h of IFI-RNN."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(
            conv3(in_channels, out_channels), ResBlock(out_channels), conv3(out_channels, out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, block, last = cast("tuple[nn.Conv2d, ResBlock, nn.Conv2d]", tuple(self))
        layers = [first, block.conv1, block.conv2, last]
        return run_chain([x], layers, [1, block.slope, 1, 1], [False, False, True, False])
