"""Convolutional GRU and LSTM deblurrers.

The RIRN paper compares with gated recurrent units without specifying a network. This one is ours: IFI-RNN's trunk
without the state, which enters only through the gates, and a narrow feature.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.nn.blocks import ResBlock, conv3
from rirn.nn.convolutions import Convolution, ConvSequential
from rirn.nn.gated import ConvGRU, ConvLSTM


class GatedNetwork(BaseNetwork):
    """Encoder and head around a gated cell that the subclass makes.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
    """

    head_reads: ClassVar[tuple[str, ...]] = ("features", "hidden")
    cell: ConvGRU | ConvLSTM

    def __init__(self, *, width: float = 1.0):
        super().__init__()
        full, half, trunk, narrow = (scaled(c, width) for c in (20, 40, 80, 20))
        self.channels = {"features": narrow, "hidden": narrow}
        self.encoder = ConvSequential(
            nn.Conv2d(3, full, 5, padding=2),
            nn.Conv2d(full, half, 5, stride=2, padding=2),
            nn.Conv2d(half, trunk, 5, stride=2, padding=2),
            *[ResBlock(trunk) for _ in range(6)],
            conv3(trunk, narrow),
        )
        self.decoder = ConvSequential(
            nn.ConvTranspose2d(2 * narrow, half, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(half, full, 3, stride=2, padding=1, output_padding=1),
            nn.Conv2d(full, 3, 5, padding=2),
        )

    def stem(self, frames: Tensor) -> Stem:
        features = self.encoder(frames)
        return features, self.cell.read(features)

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        return {"features": stem[0]}

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    @property
    def input_layers(self) -> list[Convolution]:
        return [self.encoder.convolution(0)]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-1)


class GRU(GatedNetwork):
    """The gated network with a convolutional GRU; its state is h."""

    cell: ConvGRU

    def __init__(self, *, width: float = 1.0):
        super().__init__(width=width)
        channels = self.channels["hidden"]
        self.state_channels = (channels,)
        self.cell = ConvGRU(channels, channels)

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden = self.cell.advance(stem[1], *state)
        return {"hidden": hidden}, (hidden,)


class LSTM(GatedNetwork):
    """The gated network with a convolutional LSTM; its state is (h, c), of which others see h."""

    cell: ConvLSTM

    def __init__(self, *, width: float = 1.0):
        super().__init__(width=width)
        channels = self.channels["hidden"]
        self.state_channels = (channels, channels)
        self.cell = ConvLSTM(channels, channels)

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden, cell = self.cell.advance(stem[1], *state)
        return {"hidden": hidden}, (hidden, cell)
