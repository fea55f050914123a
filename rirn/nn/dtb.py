"""Dynamic temporal blending of features, the convex baseline of ATB."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn import ops
from rirn.errors import RirnError
from rirn.nn.by_name import by_name

VARIANTS = ("ovd", "estrnn-repo")


class DTB(nn.Module):
    """``f~_t = w * f_t + (1 - w) * f~_{t-1}`` with ``w = clamp(|tanh(conv5([f_t, f~_{t-1}]))| + beta, 0,
    1)``.

    One attention map per channel and pixel, and weights that sum to one (OVD, Kim et al., ICCV 2017; layers
    as in ljzycmd/SimDeblur). ``beta`` is trained, from 0.

    Args:
        channels: c, channels of the features.
        variant: ``"estrnn-repo"`` reproduces zzh-tech/ESTRNN instead: ``w = |tanh(a / 2)|`` of an unpadded
            convolution, zero on the outer two pixels, which thus copy f~_{t-1}, and no beta.

    Raises:
        RirnError: an unknown variant.
    """

    def __init__(self, channels: int, *, variant: str = "ovd"):
        super().__init__()
        if variant not in VARIANTS:
            raise RirnError(f"there is no DTB variant {variant!r}; there are {', '.join(VARIANTS)}")
        self.channels = channels
        self.padded = variant == "ovd"
        self.conv = nn.Conv2d(2 * channels, channels, 5, padding=2 if self.padded else 0)
        self.beta = nn.Parameter(torch.zeros(())) if self.padded else None

    @by_name
    def logits(self, *, f_prev: Tensor, f_cur: Tensor) -> Tensor:
        """Logits whose |tanh| is the weight of f_t, [N, c, H, W]."""
        pair = torch.cat([f_cur, f_prev], 1)
        if not self.padded and min(pair.shape[2:]) < 5:  # no pixel has a whole neighbourhood
            return torch.zeros_like(f_cur)
        logits: Tensor = self.conv(pair)
        return logits if self.padded else F.pad(logits / 2, (2, 2, 2, 2))

    @by_name
    def maps(self, *, f_prev: Tensor, f_cur: Tensor) -> tuple[Tensor, Tensor]:
        """Weights of f~_{t-1} and of f_t in [0, 1], each [N, c, H, W]; they sum to one."""
        weight = torch.tanh(self.logits(f_prev=f_prev, f_cur=f_cur)).abs()
        weight = weight if self.beta is None else (weight + self.beta).clamp(0, 1)
        return 1 - weight, weight

    @by_name
    def forward(
        self,
        *,
        f_prev: Tensor,  # [N, c, H, W]  f~_{t-1}, zeros at the start of a sequence
        f_cur: Tensor,  # [N, c, H, W]  f_t
    ) -> Tensor:  # [N, c, H, W]  f~_t
        beta = f_cur.new_zeros(()) if self.beta is None else self.beta
        return ops.dtb_blend(f_prev, f_cur, self.logits(f_prev=f_prev, f_cur=f_cur), beta)
