"""Whether rounding decides on which side of its kink a ReLU works: then a gradient has more than one right value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

ACTIVATIONS = (torch.relu, F.leaky_relu)


class Kinks(TorchFunctionMode):
    """Counts, while a reference runs, the inputs of ReLUs whose sign a computation that rounds need not find.

    They are those nearer to zero than ``rounding`` times the largest sum of absolute values that any convolution so far has
    had. That largest sum and not the one of the same pixel is what Winograd's transforms round: where all that a filter reads
    is zero and something in the same tile is not, zero comes out as some 1e-7 of that, of either sign, and an input that is
    exactly zero in truth opens the ReLU or not.
    """

    def __init__(self, rounding: float) -> None:
        super().__init__()
        self.rounding = rounding
        self.largest = 0.0  # sum of absolute values
        self.found = 0

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is F.conv2d:
            x, weight, bias = (t.detach().abs() for t in args)
            sums = function(x, weight, bias, **kwargs)
            if sums.numel():
                self.largest = max(self.largest, sums.max().item())
        elif function in ACTIVATIONS:
            self.found += int((args[0].detach().abs() < self.rounding * self.largest).sum())
        return function(*args, **kwargs)
