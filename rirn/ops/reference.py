"""Every op in plain PyTorch: the specification that all other forms are tested against.

The functions here are differentiable by autograd as they stand. In half precision they compute in float32 and
round once at the end; in float32 and float64 they compute in the dtype of their inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

HALF_DTYPES = (torch.float16, torch.bfloat16)


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.dtype in HALF_DTYPES else x


def atb_blend(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit_prev: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_prev
    logit_cur: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_cur
    max_weight: float = 1.0,  # scales the gate of f_cur alone
) -> Tensor:  # [N, C, H, W]
    """Adaptive temporal blending, equation 4 of the paper: a conical combination, the two weights need not
    sum to one.

    ``sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur``
    """
    prev, cur = _widen(f_prev), _widen(f_cur)
    gate_prev, gate_cur = torch.sigmoid(_widen(logit_prev)), torch.sigmoid(_widen(logit_cur))
    return (gate_prev * prev + max_weight * gate_cur * cur).to(f_cur.dtype)


def irm_update(
    hidden: Tensor,  # [N, C, H, W]  h_t, hidden state of the base network at frame t
    inner: Tensor,  # [N, C, H, W]  inner state of frame t-1
    weights: Sequence[Tensor],  # joint, res1a, res1b, res2a, res2b: [2C, 2C, 3, 3]; out: [C, 2C, 3, 3]
    biases: Sequence[Tensor],  # five of [2C], then [C]
) -> Tensor:  # [N, C, H, W]  inner state of frame t
    """One step of the inner-recurrence module, equation 3: joint conv + ReLU, two residual blocks, output
    conv (all 3x3)."""
    joint, res1a, res1b, res2a, res2b, out = [
        (_widen(w), _widen(b)) for w, b in zip(weights, biases, strict=True)
    ]
    x = torch.relu(F.conv2d(torch.cat([_widen(hidden), _widen(inner)], 1), *joint, padding=1))
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res1a, padding=1)), *res1b, padding=1)
    x = x + F.conv2d(torch.relu(F.conv2d(x, *res2a, padding=1)), *res2b, padding=1)
    return F.conv2d(x, *out, padding=1).to(hidden.dtype)
