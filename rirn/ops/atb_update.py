"""All of adaptive temporal blending as one op, from features to blended features, for inference on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rirn.ops._call import HALF_DTYPES, is_autocast
from rirn.ops._library import library
from rirn.ops._transforms import is_differentiated, refuse_derivatives
from rirn.ops.backends import choose, is_auto
from rirn.ops.spec import INFERENCE_OPS
from rirn.ops.tuning import tuned


def runs_atb_update(f_cur: Tensor, tensors: Sequence[Tensor], backend: str | None = None) -> bool:
    """Whether :func:`atb_update` can and should run in place of its parts: on rirn's CUDA kernels, in half precision, with
    nothing to differentiate.

    It moves 13 images where torch's convolutions and ``atb_blend`` move 25, in 4 launches instead of 9;
    notes/atb-branch-cost.md says at what share of torch's rate that pays.

    Args:
        f_cur: [N, C, H, W], the features of frame t.
        tensors: all tensors that the op would read.
        backend: as in :func:`rirn.ops.conv3x3_chain`.
    """
    if choose("conv3x3_chain", f_cur.device, backend) != "cuda":
        return False
    if is_autocast(f_cur.device.type):
        return False
    if is_auto(backend) and tuned("atb_update", f_cur, f_cur.shape[1], "cuda") != "cuda":
        return False
    return not is_differentiated(tensors) and all(t.dtype == f_cur.dtype in HALF_DTYPES for t in tensors)


def atb_update(
    f_prev: Tensor,  # [N, C, H, W]  f~_{t-1}
    f_cur: Tensor,  # [N, C, H, W]  f_t
    weights: Sequence[Tensor],  # joint: [2C, 2C, 3, 3]; prev1, prev2, cur1, cur2: [C, C, 3, 3]
    biases: Sequence[Tensor],  # [2C], then four of [C]
    *,
    slope: float,
    decay: float,
    max_weight: float,
) -> Tensor:  # [N, C, H, W]  f~_t
    """Blend features of two frames with gates made of both (equation 4 of the paper), without a derivative.

    ``decay * sigmoid(prev2(act(prev1(u_prev)))) * f_prev + max_weight * sigmoid(cur2(act(cur1(u_cur)))) * f_cur`` with
    ``u_prev, u_cur = joint([f_cur, f_prev]).chunk(2, 1)`` and ``act`` the leaky ReLU of slope ``slope``. All convolutions are
    3x3, stride 1, zero padded. u and the results of the activations are rounded, the logits are not.

    Call it only where :func:`runs_atb_update` says so: the only kernel is for CUDA, in float16 and bfloat16.
    """
    op = torch.ops.rirn.atb_update
    result: Tensor = op(
        f_cur, f_prev, list(weights), list(biases), float(slope), float(decay), float(max_weight)
    )
    return result


def _fake(f_cur: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(f_cur)


INFERENCE_OPS.append("atb_update")
if library().loaded and hasattr(torch.ops.rirn, "atb_update"):
    torch.library.register_fake("rirn::atb_update", _fake)
    refuse_derivatives(
        "atb_update", "atb_update has no derivative: rirn.nn.ATB takes its parts where a gradient is wanted"
    )
