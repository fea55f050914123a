"""The part of the reconstructor D that RIRN adds in front of a base network's own head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rirn.nn.blocks import ResBlock, bias_of
from rirn.nn.convolutions import conv1x1


class Fuse(nn.Module):
    """Concatenation, a 1x1 convolution to the width that the head reads, then residual blocks.

    Args:
        in_channels: sum of the channels of the tensors given to :meth:`forward`.
        out_channels: input width of the base network's head.
        blocks: number of residual blocks; a head without activations needs at least one, or the tensors could
            only be added up.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int):
        super().__init__()
        self.fuse = nn.Conv2d(in_channels, out_channels, 1)
        self.blocks = nn.Sequential(*[ResBlock(out_channels) for _ in range(blocks)])

    @torch.no_grad()
    def init_identity(self) -> None:
        """Start by passing the first ``out_channels`` input channels through and ignoring the rest."""
        nn.init.dirac_(self.fuse.weight)
        nn.init.zeros_(bias_of(self.fuse))
        for block in cast("Iterable[ResBlock]", self.blocks):
            nn.init.zeros_(block.conv2.weight)
            nn.init.zeros_(bias_of(block.conv2))

    def forward(self, tensors: Sequence[Tensor]) -> Tensor:
        """Tensors [N, c_i, H, W] in a fixed order -> [N, out_channels, H, W]."""
        fused: Tensor = self.blocks(conv1x1(tensors, self.fuse))
        return fused
