"""Filter adaptive convolution as a module."""

from __future__ import annotations

from torch import Tensor, nn

from rirn import ops


class FAC(nn.Module):
    """:func:`rirn.ops.fac`: every pixel of every channel has its own 5x5 filter (sczhou/STFAN); no parameters."""

    def forward(
        self,
        features: Tensor,  # [N, C, H, W]
        kernels: Tensor,  # [N, 25C, H, W]
    ) -> Tensor:  # [N, C, H, W]
        return ops.fac(features, kernels)
