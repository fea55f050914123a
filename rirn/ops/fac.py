"""Filter adaptive convolution: a filter of its own for every pixel of every channel."""

from __future__ import annotations

import torch
from torch import Tensor

from rirn.ops._call import autocast, check_channels, check_images
from rirn.ops._register import call, register

TAPS = 25


def fac(
    features: Tensor,  # [N, C, H, W]
    kernels: Tensor,  # [N, 25C, H, W]  channel 25c + 5i + j: weight of row i, column j for feature channel c
    *,
    backend: str | None = None,
) -> Tensor:  # [N, C, H, W]
    """Filter every pixel of every channel with its own 5x5 filter (STFAN, Zhou et al., ICCV 2019).

    ``out[n, c, y, x] = sum_ij kernels[n, 25c + 5i + j, y, x] * padded[n, c, y + i, x + j]`` with i, j in
    0..4, where ``padded`` are the features with two pixels of edge replication on each side.
    The filters are not normalised. No unfolded copy of the features is made. Half precision sums in float32
    and rounds once at the end; under autocast both tensors are cast to its dtype first.

    Args:
        features: [N, C, H, W], float32, float64, float16 or bfloat16, any strides, H and W at least 1.
        kernels: [N, 25C, H, W] in the dtype and on the device of ``features``.
        backend: ``auto``, ``reference``, ``cpu``, ``cuda`` or ``triton``; None takes what
            :mod:`rirn.ops.backends` says.

    Returns:
        [N, C, H, W] in the dtype of ``features``.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
        RirnError: a backend asked for by name cannot run here, or there is none of that name.

    Example:
        >>> import torch
        >>> from rirn.ops import fac
        >>> kernels = torch.zeros(1, 25, 2, 3)
        >>> kernels[:, 13] = 1  # row 2, column 3: the right neighbour
        >>> fac(torch.arange(6.0).reshape(1, 1, 2, 3), kernels)
        tensor([[[[1., 2., 2.],
                  [4., 5., 5.]]]])
    """
    features, kernels = autocast(features, kernels)
    check_images(features=features)
    check_channels("kernels", kernels, f"{TAPS}C", (TAPS * features.shape[1],), features=features)
    result: Tensor = call("fac", features.device, backend, features, kernels)
    return result


def _fake(features: Tensor, kernels: Tensor) -> Tensor:
    return torch.empty_like(features)


register("fac", _fake, images=2)
