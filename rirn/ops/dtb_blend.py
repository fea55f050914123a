"""Dynamic temporal blending, the convex baseline of :func:`rirn.ops.atb_blend`."""

from __future__ import annotations

import torch
from torch import Tensor

from rirn.ops._call import check_blend, check_kind, widen
from rirn.ops._register import call, register
from rirn.ops.spec import Op


def _clamped_to_unit(x: Tensor) -> Tensor:
    """``x.clamp(0, 1)`` that passes gradients at both ends, as torch's own did before 2.14, which stops them there."""
    return torch.where((x >= 0) & (x <= 1), x, x.detach().clamp(0, 1))


def dtb_blend_ref(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit: Tensor,  # [N, C or 1, H, W]  any real
    beta: Tensor,  # []  lower end of the weight of f_cur
) -> Tensor:  # [N, C, H, W]
    """Dynamic temporal blending of OVD: a convex combination, whose two weights sum to one.

    ``w * f_cur + (1 - w) * f_prev`` with ``w = clamp(|tanh(logit)| + beta, 0, 1)``
    """
    prev, cur = widen(f_prev), widen(f_cur)
    weight = _clamped_to_unit(torch.tanh(widen(logit)).abs() + widen(beta))
    return (weight * cur + (1 - weight) * prev).to(f_cur.dtype)


def _rules(f_prev: Tensor, f_cur: Tensor, logit: Tensor, beta: Tensor) -> None:
    check_blend(f_prev, f_cur, logit=logit)
    check_kind("beta", beta, "f_cur", f_cur)
    if beta.dim() != 0:
        raise ValueError(
            f"beta must be one number without dimensions; got {list(beta.shape)}: use beta.squeeze()"
        )


def dtb_blend(
    f_prev: Tensor,  # [N, C, H, W]  blended features of frame t-1
    f_cur: Tensor,  # [N, C, H, W]  features of frame t
    logit: Tensor,  # [N, C or 1, H, W]  any real
    beta: Tensor,  # []  lower end of the weight of f_cur
    *,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]
    """Blend the features of two frames with weights that sum to one (OVD, Kim et al., ICCV 2017).

    ``w * f_cur + (1 - w) * f_prev`` with ``w = clamp(|tanh(logit)| + beta, 0, 1)``. Half precision computes
    in float32 and rounds once at the end; under autocast all tensors are cast to its dtype first.

    Args:
        f_prev: [N, C, H, W], float32, float64, float16 or bfloat16, any strides.
        f_cur: like ``f_prev``: same shape, dtype and device.
        logit: [N, C, H, W], or [N, 1, H, W] for one weight per pixel, in the dtype and on the device of
            ``f_cur``.
        beta: one number (0 dimensions), useful in [0, 1]; 1 means no blending.
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``; None leaves the
            choice to :mod:`rirn.ops.backends`.

    Returns:
        [N, C, H, W] in the dtype of ``f_cur``.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
        RirnError: a backend requested by name does not exist or cannot run here.

    Example:
        >>> import torch
        >>> from rirn.ops import dtb_blend
        >>> f_prev, f_cur = torch.ones(1, 2, 4, 4), torch.full((1, 2, 4, 4), 3.0)
        >>> dtb_blend(f_prev, f_cur, torch.zeros(1, 2, 4, 4), torch.tensor(0.25)).unique()
        tensor([1.5000])
    """
    result: Tensor = call(OP, backend, f_prev, f_cur, logit, beta)
    return result


OP = register(
    Op(
        "dtb_blend",
        dtb_blend_ref,
        _rules,
        images=3,
        example=lambda n, c, h, w: [*[(n, c, h, w)] * 3, ()],
        like="f_cur",
        one_for_all=(2,),
        channels=(80,),
        operations=7,
    )
)
