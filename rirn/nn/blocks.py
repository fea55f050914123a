"""Convolution blocks that the published recurrent deblurrers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution, stride 1, zero padding 1, bias: [N, in, H, W] -> [N, out, H, W]."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class ResBlock(nn.Module):
    """``x + conv3(relu(conv3(x)))`` on [N, C, H, W], nothing after the sum (IFI-RNN's block)."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv3(channels, channels)
        self.conv2 = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))
