"""What a base network offers so that RIRN, or nothing, can be put on top of it."""

from __future__ import annotations

import abc
from typing import ClassVar

from torch import Tensor, nn

Stem = tuple[Tensor, ...]
BaseState = tuple[Tensor, ...]


class BaseNetwork(nn.Module, abc.ABC):
    """A recurrent deblurrer cut where RIRN attaches: encoder (equation 1) and head (equation 2).

    One frame passes ``stem -> features -> hidden -> head``. Frames come in shifted by -0.5 and with sides that are multiples of
    4. A base network knows nothing about RIRN: the blended feature that :meth:`hidden` receives equals ``features`` unless a
    module in front changed it, and only a base that blends by itself looks at it.
    """

    feature_channels: int
    """Channels of f_t."""
    hidden_channels: int
    """Channels of h_t."""
    head_channels: int
    """Channels that :meth:`head` reads."""
    stride: ClassVar[int] = 4
    """Frame size over size of f_t and h_t."""
    fuse_blocks: ClassVar[int] = 1
    """Residual blocks behind the fusing convolution of RIRN; 0 where the head has activations of its own."""

    @abc.abstractmethod
    def stem(self, frames: Tensor) -> Stem:
        """Everything that depends on the frame alone, so that a whole clip passes in one call: [M, 3, H, W] -> tensors [M, ...]."""

    @abc.abstractmethod
    def initial_state(self, stem: Stem) -> BaseState:
        """State before the first frame, for the batch, size, dtype and device of ``stem``."""

    @abc.abstractmethod
    def features(self, stem: Stem, state: BaseState) -> Tensor:
        """f_t, [N, feature_channels, H/stride, W/stride]."""

    @abc.abstractmethod
    def hidden(self, features: Tensor, state: BaseState) -> tuple[Tensor, BaseState]:
        """h_t, [N, hidden_channels, H/stride, W/stride], and the state for the next frame."""

    @abc.abstractmethod
    def plain_input(self, features: Tensor, hidden: Tensor) -> Tensor:
        """What the head reads when nothing is put on top, [N, head_channels, H/stride, W/stride]."""

    @abc.abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """[N, head_channels, H/stride, W/stride] -> image [N, 3, H, W], shifted by -0.5."""

    @property
    @abc.abstractmethod
    def output_layer(self) -> nn.Module:
        """Last layer of the head, the one that a residual model zeroes at the start of training."""


def scaled(channels: int, width: float) -> int:
    """``channels * width`` rounded to a multiple of 4, at least 4."""
    return max(4, 4 * round(channels * width / 4))
