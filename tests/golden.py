"""The deterministic numbers that every structure test is filled with: no weights to ship, no random generator
to agree on.

``u(i, k) = frac(43758.5453 * sin(12.9898 (i + 1) + 78.233 (k + 1)))`` in float64, where ``i`` is the flat
index (C order) into a tensor and ``k`` numbers the tensors. Golden rows that were computed with it elsewhere
are compared to 1e-6.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FILLED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def u(i: Tensor | int, k: int) -> Tensor:
    """Return the value(s) in [0, 1) at flat index ``i`` of tensor number ``k``, float64."""
    i = torch.as_tensor(i, dtype=torch.float64)
    v = 43758.5453 * torch.sin(12.9898 * (i + 1) + 78.233 * (k + 1))
    return v - v.floor()


def tensor(shape: Iterable[int], k: int) -> Tensor:
    """Return ``u(., k)`` laid out in C order over ``shape``, float64."""
    shape = tuple(shape)
    return u(torch.arange(torch.Size(shape).numel()), k).reshape(shape)


def weight(shape: Iterable[int], k: int) -> Tensor:
    """Return the fill of weight number ``k``: ``(2u - 1) / sqrt(numel / shape[0])``."""
    shape = torch.Size(shape)
    return (2 * tensor(shape, k) - 1) / (shape.numel() / shape[0]) ** 0.5


def bias(size: int, k: int) -> Tensor:
    """Return the fill of bias number ``k``: ``0.1 (2u - 1)``."""
    return 0.1 * (2 * tensor((size,), k) - 1)


@torch.no_grad()
def fill_(modules_in_order: nn.Module | Iterable[nn.Module], k: int = 0) -> int:
    """Fill in place every conv, deconv and linear layer of the modules, in the order given, and return the
    next free number.

    Each layer takes its weight first, then its bias if it has one. A container is walked in its own order of
    ``modules()``, so hand over the leaves where the wanted order is another one. Batch norms get a scale of
    one and no shift.
    """
    modules = [modules_in_order] if isinstance(modules_in_order, nn.Module) else modules_in_order
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
            if not isinstance(layer, FILLED):
                continue
            layer.weight.copy_(weight(layer.weight.shape, k))
            k += 1
            if layer.bias is not None:
                layer.bias.copy_(bias(layer.bias.numel(), k))
                k += 1
    return k


def clip(frames: int) -> Tensor:
    """Return the input clip [1, frames, 3, 32, 32], float64, values in [-0.5, 0.5) (no further shift)."""
    return tensor((1, frames, 3, 32, 32), 999) - 0.5
