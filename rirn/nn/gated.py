"""Convolutional GRU and LSTM cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn import ops
from rirn.nn.blocks import bias_of, conv3


class ConvGRU(nn.Module):
    """Gated recurrent unit (Cho et al., EMNLP 2014) with 3x3 convolutions.

    ``[z, r] = sigmoid(conv3([x, h]))``, ``n = tanh(conv3([x, r * h]))``, ``h_t = (1 - z) * h + z * n``.

    Args:
        in_channels: channels of the input x.
        channels: channels of the state h.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.in_channels = in_channels
        self.gates = conv3(in_channels + channels, 2 * channels)
        self.candidate = conv3(in_channels + channels, channels)

    def read(self, x: Tensor) -> Tensor:
        """The parts of all logits that do not depend on the state, [N, in_channels, H, W] -> [N, 3 * channels, H,
        W]; takes many frames at once."""
        layers = (self.gates, self.candidate)
        weight = torch.cat([layer.weight[:, : self.in_channels] for layer in layers])
        return F.conv2d(x, weight, torch.cat([bias_of(layer) for layer in layers]), padding=1)

    def forward(
        self,
        x: Tensor,  # [N, in_channels, H, W]
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
    ) -> Tensor:  # [N, channels, H, W]  h_t
        return self.advance(self.read(x), hidden)

    def advance(
        self,
        read: Tensor,  # [N, 3 * channels, H, W]  what :meth:`read` made of x_t
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
    ) -> Tensor:  # [N, channels, H, W]  h_t
        c = hidden.shape[1]
        gates = read[:, : 2 * c] + _recur(self.gates, self.in_channels, hidden)
        logit_z, logit_r = gates.chunk(2, 1)
        kept = ops.gru_reset(logit_r, hidden)
        logit_n = read[:, 2 * c :] + _recur(self.candidate, self.in_channels, kept)
        return ops.gru_update(hidden, logit_z, logit_n)


class ConvLSTM(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with a 3x3 convolution for all four gates.

    ``[i, f, o, g] = conv3([x, h])``, ``c_t = sigmoid(f) * c + sigmoid(i) * tanh(g)``, ``h_t = sigmoid(o) *
    tanh(c_t)``. The bias of the forget gate f starts at 1, so that an untrained cell remembers.

    Args:
        in_channels: channels of the input x.
        channels: channels of the states h and c.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.in_channels = in_channels
        self.gates = conv3(in_channels + channels, 4 * channels)
        nn.init.ones_(bias_of(self.gates)[channels : 2 * channels])

    def read(self, x: Tensor) -> Tensor:
        """The parts of all logits that do not depend on the state, [N, in_channels, H, W] -> [N, 4 * channels, H,
        W]; takes many frames at once."""
        return F.conv2d(x, self.gates.weight[:, : self.in_channels], self.gates.bias, padding=1)

    def forward(
        self,
        x: Tensor,  # [N, in_channels, H, W]
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
        cell: Tensor,  # [N, channels, H, W]  c_{t-1}
    ) -> tuple[Tensor, Tensor]:  # [N, channels, H, W] each: h_t, c_t
        return self.advance(self.read(x), hidden, cell)

    def advance(
        self,
        read: Tensor,  # [N, 4 * channels, H, W]  what :meth:`read` made of x_t
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
        cell: Tensor,  # [N, channels, H, W]  c_{t-1}
    ) -> tuple[Tensor, Tensor]:  # [N, channels, H, W] each: h_t, c_t
        return ops.lstm_update(read + _recur(self.gates, self.in_channels, hidden), cell)


def _recur(layer: nn.Conv2d, in_channels: int, state: Tensor) -> Tensor:
    """The part of a convolution over [x, state] that reads the state."""
    return F.conv2d(state, layer.weight[:, in_channels:], padding=1)
