"""Convolutional GRU and LSTM cells."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rirn import ops
from rirn.nn.blocks import conv3


class ConvGRU(nn.Module):
    """Gated recurrent unit (Cho et al., EMNLP 2014) with 3x3 convolutions.

    ``[z, r] = sigmoid(conv3([x, h]))``, ``n = tanh(conv3([x, r * h]))``, ``h_t = (1 - z) * h + z * n``.

    Args:
        in_channels: channels of the input x.
        channels: channels of the state h.
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        self.gates = conv3(in_channels + channels, 2 * channels)
        self.candidate = conv3(in_channels + channels, channels)

    def forward(
        self,
        x: Tensor,  # [N, in_channels, H, W]
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
    ) -> Tensor:  # [N, channels, H, W]  h_t
        logit_z, logit_r = self.gates(torch.cat([x, hidden], 1)).chunk(2, 1)
        logit_n = self.candidate(torch.cat([x, ops.gru_reset(logit_r, hidden)], 1))
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
        self.gates = conv3(in_channels + channels, 4 * channels)
        nn.init.ones_(self.gates.bias[channels : 2 * channels])

    def forward(
        self,
        x: Tensor,  # [N, in_channels, H, W]
        hidden: Tensor,  # [N, channels, H, W]  h_{t-1}
        cell: Tensor,  # [N, channels, H, W]  c_{t-1}
    ) -> tuple[Tensor, Tensor]:  # [N, channels, H, W] each: h_t, c_t
        return ops.lstm_update(self.gates(torch.cat([x, hidden], 1)), cell)
