"""Adaptive temporal blending (equation 4 of the paper) in one pass over memory."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rirn.ops._call import check_blend, widen
from rirn.ops._register import call, register
from rirn.ops.spec import Op


def atb_blend_ref(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit_prev: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_prev
    logit_cur: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_cur
    max_weight: float = 1.0,  # scales the gate of f_cur alone
) -> Tensor:  # [N, C, H, W]
    """Adaptive temporal blending, equation 4 of the paper: a conical combination, whose two weights need not
    sum to one.

    ``sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur``
    """
    prev, cur = widen(f_prev), widen(f_cur)
    gate_prev, gate_cur = torch.sigmoid(widen(logit_prev)), torch.sigmoid(widen(logit_cur))
    return (gate_prev * prev + max_weight * gate_cur * cur).to(f_cur.dtype)


def _rules(f_prev: Tensor, f_cur: Tensor, logit_prev: Tensor, logit_cur: Tensor, max_weight: float) -> None:
    check_blend(f_prev, f_cur, logit_prev=logit_prev, logit_cur=logit_cur)
    if not 0 <= max_weight < math.inf:  # which torch.compile can trace with a number that changes
        raise ValueError(
            f"max_weight must be finite and, as in any conical blend, not negative; got {max_weight}"
        )


def atb_blend(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit_prev: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_prev
    logit_cur: Tensor,  # [N, C or 1, H, W]  any real; its sigmoid is the gate of f_cur
    *,
    max_weight: float = 1.0,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]
    """Blend the features of two frames, each weighted by its own gate (equation 4 of the paper).

    ``sigmoid(logit_prev) * f_prev + max_weight * sigmoid(logit_cur) * f_cur``. The combination is conical:
    the weights are not negative but need not sum to one, so a feature can be attenuated (sum below 1) or
    emphasised (sum above 1). The gate of ``f_prev`` never exceeds 1, so old features are never amplified; where
    its logit is large it is 1 and nothing decays. ``max_weight`` scales the gate of ``f_cur`` alone.

    Half precision computes in float32 and rounds once at the end. Under autocast all four tensors are cast to
    its dtype first. The backward pass recomputes the gates; nothing but the inputs is saved.

    Args:
        f_prev: [N, C, H, W], float32, float64, float16 or bfloat16, any strides.
        f_cur: like ``f_prev``: same shape, dtype and device.
        logit_prev: [N, C, H, W], or [N, 1, H, W] for one gate per pixel, in the dtype and on the device of
            ``f_cur``.
        logit_cur: like ``logit_prev``; either of the two may have one channel.
        max_weight: upper end of the gate of ``f_cur``, finite and not negative.
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``; None leaves the
            choice to :mod:`rirn.ops.backends`.

    Returns:
        [N, C, H, W] in the dtype and, where it is dense, the memory format of ``f_cur``.

    Raises:
        ValueError: shapes, dtypes or devices do not fit, or ``max_weight`` is negative or not finite.
        RirnError: a backend requested by name does not exist or cannot run here.

    Example:
        >>> import torch
        >>> from rirn.ops import atb_blend
        >>> f_prev, f_cur = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
        >>> even = torch.zeros(1, 1, 4, 4)  # sigmoid(0) = 1/2, one gate per pixel
        >>> atb_blend(f_prev, f_cur, even, even).unique()
        tensor([2.])
        >>> atb_blend(f_prev, f_cur, even, even, max_weight=2.0).unique()
        tensor([3.5000])
    """
    result: Tensor = call(OP, backend, f_prev, f_cur, logit_prev, logit_cur, max_weight)
    return result


OP = register(
    Op(
        "atb_blend",
        atb_blend_ref,
        _rules,
        images=4,
        example=lambda n, c, h, w: [*[(n, c, h, w)] * 4, 1.0],
        like="f_cur",
        one_for_all=(2, 3),
        channels=(80,),
        operations=5,
    )
)
