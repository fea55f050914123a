"""Global spatio-temporal attention, the memory of cached features that IRM is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class GSA(nn.Module):
    """Fusion of the features of several frames by channel attention (ESTRNN, Zhong et al., ECCV 2020).

    For every neighbour i of the reference r, with weights shared by all: ``c = [f_r, f_i]``, ``g =
    sigmoid(Lin(GELU( Lin(mean of c over all pixels))))``, ``e_i = conv1(g * conv1(conv1(c)))``; then conv1 on
    ``[e_i ..., f_r]``. Layers as in zzh-tech/ESTRNN.

    Args:
        channels: c, channels of the features.
        frames: n, number of frames.
        reference: index of f_r among them.
    """

    def __init__(self, channels: int, frames: int, reference: int):
        super().__init__()
        self.reference = reference
        pair = 2 * channels
        self.gate = nn.Sequential(
            nn.Linear(pair, 2 * pair), nn.GELU(), nn.Linear(2 * pair, pair), nn.Sigmoid()
        )
        self.expand = nn.Sequential(nn.Conv2d(pair, 2 * pair, 1), nn.Conv2d(2 * pair, pair, 1))
        self.condense = nn.Conv2d(pair, channels, 1)
        self.fusion = nn.Conv2d(frames * channels, frames * channels, 1)

    def forward(
        self,
        features: Sequence[Tensor],  # n times [N, c, H, W], ascending in time
    ) -> Tensor:  # [N, n * c, H, W]
        reference = features[self.reference]
        fused = []
        for i, neighbour in enumerate(features):
            if i != self.reference:
                pair = torch.cat([reference, neighbour], 1)
                gate = self.gate(pair.mean((2, 3)))[:, :, None, None]
                fused.append(self.condense(gate * self.expand(pair)))
        out: Tensor = self.fusion(torch.cat([*fused, reference], 1))
        return out
