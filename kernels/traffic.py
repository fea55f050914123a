"""Bytes that the forward launches of every op move to and from device memory, by formula.

Counted, not measured: each tensor of a launch once, as caches of the size of GPUs of today allow. The tests hold
the formulas against the sectors that the Triton kernels touch. Parameters that a launch reads again and again
(weights, biases) count once per launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Traffic(NamedTuple):
    """Launches, and the bytes they read and write."""

    launches: int
    read: int
    written: int


def _pointwise(shape: Sequence[int], itemsize: int, read: float, written: int) -> Traffic:
    size = math.prod(shape) * itemsize
    return Traffic(1, round(size * read), size * written)


def atb_blend(shape: Sequence[int], itemsize: int, *, one_per_pixel: int = 0) -> Traffic:
    """Two features [N, C, H, W] and two logits in, one tensor out; ``one_per_pixel`` logits have one channel."""
    return _pointwise(shape, itemsize, 4 - one_per_pixel * (1 - 1 / shape[1]), 1)


def dtb_blend(shape: Sequence[int], itemsize: int, *, one_per_pixel: bool = False) -> Traffic:
    """Two features and a logit in, one tensor out; beta, a single number, is left out."""
    return _pointwise(shape, itemsize, 2 + (1 / shape[1] if one_per_pixel else 1), 1)


def gru_reset(shape: Sequence[int], itemsize: int) -> Traffic:
    """A logit and the state in, one tensor out."""
    return _pointwise(shape, itemsize, 2, 1)


def gru_update(shape: Sequence[int], itemsize: int) -> Traffic:
    """The state and two logits in, the state out."""
    return _pointwise(shape, itemsize, 3, 1)


def lstm_update(shape: Sequence[int], itemsize: int) -> Traffic:
    """Four logits and the cell in, both states out."""
    return _pointwise(shape, itemsize, 5, 2)


def fac(shape: Sequence[int], itemsize: int) -> Traffic:
    """Features and 25 filter values for each in, one tensor out."""
    return _pointwise(shape, itemsize, 26, 1)


def conv3x3_chain(
    shape: Sequence[int],  # [N, C, H, W] of the inputs together, as the first layer sees them
    channels: Sequence[int],  # of the layers' results
    skips: Sequence[bool],
    itemsize: int,
) -> Traffic:
    """One launch per layer, each of which reads what the layer before it wrote, its weights, and with a skip
    connection what that layer read."""
    n, c, h, w = shape
    widths = [c, *channels]
    pixels = n * h * w
    read = sum(
        pixels * widths[i] + 9 * widths[i] * widths[i + 1] + widths[i + 1] + skip * pixels * widths[i - 1]
        for i, skip in enumerate(skips)
    )
    return Traffic(len(channels), read * itemsize, pixels * sum(channels) * itemsize)


def irm_update(shape: Sequence[int], itemsize: int) -> Traffic:
    """Six layers of ``conv3x3_chain`` on the two states [N, C, H, W]."""
    n, c, h, w = shape
    skips = (False, False, True, False, True, False)
    return conv3x3_chain((n, 2 * c, h, w), [2 * c] * 5 + [c], skips, itemsize)
