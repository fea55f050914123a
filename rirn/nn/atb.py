"""Adaptive temporal blending of features (equation 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rirn import ops
from rirn.nn.blocks import bias_of, conv3, run_chain, weights_and_biases
from rirn.nn.by_name import by_name
from rirn.ops.atb_update import atb_update, runs_atb_update
from rirn.ops.conv3x3_chain import runs_kernel


class GateBranch(nn.Module):
    """``conv3(leaky_relu(conv3(x), 0.1))``: one attention map's logits, [N, c, H, W] -> [N, c, H, W]."""

    slope = 0.1

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = conv3(channels, channels)
        self.conv2 = conv3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return run_chain([x], [self.conv1, self.conv2], [self.slope, 1])


class ATB(nn.Module):
    """``f~_t = w~ * f~_{t-1} + w * f_t`` with two independent attention maps in (0, 1), one value per channel
    and pixel.

    The weights form a conical combination: their sum lies in (0, 2), so a feature can be weakened or
    emphasised. The sigmoid keeps the gate of f~_{t-1} below 1, but as close to 1 as float32 allows: where
    nothing moves, trained networks add up f_t frame after frame until the picture breaks. With a ``decay`` d below 1,
    f~ stays within ``max_weight / (1 - d)`` times the largest f. The paper gives the equation; the two branches and
    the decay are ours.

    Args:
        channels: c, channels of the features.
        max_weight: upper bound of the gate of f_t; above 1 a single feature can be amplified, as the paper's w >= 0 allows.
        decay: upper bound of the gate of f~_{t-1}, in (0, 1]. The paper has no bound.

    Example:
        >>> import torch
        >>> from rirn.nn import ATB
        >>> atb = ATB(8)
        >>> f_cur, f_prev = torch.rand(1, 8, 4, 4), torch.zeros(1, 8, 4, 4)  # before the first frame
        >>> weight_prev, weight_cur = atb.maps(f_prev=f_prev, f_cur=f_cur)
        >>> torch.allclose(atb(f_prev=f_prev, f_cur=f_cur), weight_cur * f_cur)
        True
    """

    def __init__(self, channels: int, *, max_weight: float = 1.0, decay: float = 1.0):
        super().__init__()
        self.channels = channels
        self.max_weight = max_weight
        self.decay = decay
        self.joint = conv3(2 * channels, 2 * channels)
        self.branch_prev = GateBranch(channels)
        self.branch_cur = GateBranch(channels)

    @by_name
    def logits(self, *, f_prev: Tensor, f_cur: Tensor) -> tuple[Tensor, Tensor]:
        """Gate logits of f~_{t-1} and of f_t, each [N, c, H, W]."""
        if not runs_kernel([f_cur, f_prev], list(self.parameters())):
            u_prev, u_cur = run_chain([f_cur, f_prev], [self.joint], [1]).chunk(2, 1)
            return self.branch_prev(u_prev), self.branch_cur(u_cur)
        # Each branch runs together with its half of the joint convolution, whose result need not be stored.
        halves = zip(self.joint.weight.chunk(2), bias_of(self.joint).chunk(2), strict=True)
        logits = []
        for (weight, bias), branch in zip(halves, (self.branch_prev, self.branch_cur), strict=True):
            weights, biases = weights_and_biases([branch.conv1, branch.conv2])
            slopes, skips = [1, branch.slope, 1], [False] * 3
            logits.append(
                ops.conv3x3_chain([f_cur, f_prev], [weight, *weights], [bias, *biases], slopes, skips)
            )
        return logits[0], logits[1]

    @by_name
    def maps(self, *, f_prev: Tensor, f_cur: Tensor) -> tuple[Tensor, Tensor]:
        """Attention maps w~_{t-1} in (0, decay) and w_t in (0, max_weight), each [N, c, H, W] (figures 4 and 6)."""
        logit_prev, logit_cur = self.logits(f_prev=f_prev, f_cur=f_cur)
        return self.decay * torch.sigmoid(logit_prev), self.max_weight * torch.sigmoid(logit_cur)

    @by_name
    def forward(
        self,
        *,
        f_prev: Tensor,  # [N, c, H, W]  f~_{t-1}, zeros at the start of a sequence
        f_cur: Tensor,  # [N, c, H, W]  f_t
    ) -> Tensor:  # [N, c, H, W]  f~_t
        if runs_atb_update(f_cur, [f_cur, f_prev, *self.parameters()]):
            branches = (self.branch_prev, self.branch_cur)
            layers = [self.joint, *(layer for branch in branches for layer in (branch.conv1, branch.conv2))]
            weights, biases = weights_and_biases(layers)
            return atb_update(
                f_prev,
                f_cur,
                weights,
                biases,
                slope=GateBranch.slope,
                decay=self.decay,
                max_weight=self.max_weight,
            )
        logits = self.logits(f_prev=f_prev, f_cur=f_cur)
        kept = f_prev if self.decay == 1 else self.decay * f_prev
        return ops.atb_blend(kept, f_cur, *logits, max_weight=self.max_weight)
