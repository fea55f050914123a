"""Filter adaptive convolution: a separate filter for every pixel of every channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rirn.ops._call import check_channels, check_images, widen
from rirn.ops._register import call, register
from rirn.ops.spec import Op

TAPS = 25


def fac_ref(
    features: Tensor,  # [N, C, H, W]
    kernels: Tensor,  # [N, 25C, H, W]  channel 25c + 5i + j: weight of row i, column j for feature channel c
) -> Tensor:  # [N, C, H, W]
    """Filter adaptive convolution of STFAN: every pixel of every channel has its own 5x5 filter; edges are
    replicated.

    ``out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * padded[n, c, y + i, x + j]``
    """
    c, h, w = features.shape[1:]
    padded = F.pad(widen(features), (2, 2, 2, 2), mode="replicate")
    taps = torch.unflatten(kernels, 1, (c, 25))
    out = torch.zeros_like(features, dtype=padded.dtype)
    # Tap by tap: all 25 shifted copies of the features at once would be as large as the kernels.
    for tap in range(25):
        i, j = divmod(tap, 5)
        out = out + widen(taps[:, :, tap]) * padded[:, :, i : i + h, j : j + w]
    return out.to(features.dtype)


def _rules(features: Tensor, kernels: Tensor) -> None:
    check_images(features=features)
    check_channels("kernels", kernels, f"{TAPS}C", (TAPS * features.shape[1],), features=features)


def fac(
    features: Tensor,  # [N, C, H, W]
    kernels: Tensor,  # [N, 25C, H, W]  channel 25c + 5i + j: weight of row i, column j for feature channel c
    *,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]
    """Filter every pixel of every channel with its own 5x5 filter (STFAN, Zhou et al., ICCV 2019).

    ``out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * padded[n, c, y + i, x + j]`` with i, j in
    0..4, where ``padded`` is the features with two pixels of edge replication on each side.
    The filters are not normalised. No unfolded copy of the features is made. Half precision sums in float32
    and rounds once at the end; under autocast both tensors are cast to its dtype first.

    Args:
        features: [N, C, H, W], float32, float64, float16 or bfloat16, any strides, H and W at least 1.
        kernels: [N, 25C, H, W] in the dtype and on the device of ``features``.
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``; None leaves the
            choice to :mod:`rirn.ops.backends`.

    Returns:
        [N, C, H, W] in the dtype of ``features``.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
        RirnError: a backend requested by name does not exist or cannot run here.

    Example:
        >>> import torch
        >>> from rirn.ops import fac
        >>> kernels = torch.zeros(1, 25, 2, 3)
        >>> kernels[:, 13] = 1  # row 2, column 3: the right neighbour
        >>> fac(torch.arange(6.0).reshape(1, 1, 2, 3), kernels)
        tensor([[[[1., 2., 2.],
                  [4., 5., 5.]]]])
    """
    result: Tensor = call(OP, backend, features, kernels)
    return result


OP = register(
    Op(
        "fac",
        fac_ref,
        _rules,
        images=2,
        example=lambda n, c, h, w: [(n, c, h, w), (n, TAPS * c, h, w)],
        like="features",
        channels=(32,),  # STFAN has 128: its filters would be 737 MB, the reference's gradients 25 times that
        operations=50,
    )
)
