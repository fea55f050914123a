"""IFI-RNN: recurrent network with intra-frame iterations (Nah, Son, Lee, CVPR 2019).

Layers follow the public implementation in zzh-tech/ESTRNN.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from rirn.errors import RirnError
from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.models.window import Window
from rirn.nn.blocks import ResBlock, StateUpdate
from rirn.nn.convolutions import Convolution, ConvSequential


class Cell(nn.Module):
    """F_B (frame encoder), F_R (residual trunk) and F_h (state update) of one IFI-RNN cell."""

    def __init__(self, width: float, blocks: int, frames: int):
        super().__init__()
        full, half, quarter, hidden = (scaled(c, width) for c in (20, 40, 60, 20))
        self.encoder = ConvSequential(
            nn.Conv2d(3 * frames, full, 5, padding=2),
            nn.Conv2d(full, half, 5, stride=2, padding=2),
            nn.Conv2d(half, quarter, 5, stride=2, padding=2),
        )
        self.hidden_channels = hidden
        self.feature_channels = quarter + hidden
        self.trunk = nn.Sequential(*[ResBlock(self.feature_channels) for _ in range(blocks)])
        self.update = StateUpdate(self.feature_channels, hidden)

    def features(self, encoded: Tensor, hidden: Tensor) -> Tensor:
        first, *others = self.trunk
        features: Tensor = first(encoded, hidden)
        for block in others:
            features = block(features)
        return features


class IFIRNN(BaseNetwork):
    """IFI-RNN; C1H1 is the baseline of the RIRN paper.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        variant: ``"CxHy"``: x cells with separate weights; the first x - 1 update the hidden state once
            each, the last one y times, all on the same frame. Public code calls one cell A and three passes
            of a cell B "C2H3".
        blocks: residual blocks in the trunk of a cell.
        past: earlier frames that the encoder reads together with the one to restore; motion between frames indicates
            motion during an exposure. Not in the paper, nor is ``future``.
        future: later frames, which the output waits for.

    Raises:
        RirnError: ``blocks`` is below 1, ``past`` or ``future`` is negative, or ``variant`` is not of the form CxHy with x
            and y from 1 to 9.
    """

    def __init__(
        self, *, width: float = 1.0, variant: str = "C1H1", blocks: int = 6, past: int = 0, future: int = 0
    ):
        super().__init__()
        if min(past, future) < 0:
            raise RirnError(f"past and future of ifi-rnn must not be negative; got {past} and {future}")
        if blocks < 1:
            raise RirnError(f"the trunk of ifi-rnn needs at least one residual block; got {blocks}")
        match = re.fullmatch(r"C([1-9])H([1-9])", variant)
        if match is None:
            raise RirnError(
                f"ifi-rnn has no variant {variant!r}; "
                "write it as CxHy with x and y from 1 to 9, for example C1H1 or C2H3"
            )
        cells, self.passes = int(match[1]), int(match[2])
        self.stem_window = Window(past, future)
        frames = self.stem_window.size
        self.cells = cast(
            "Sequence[Cell]", nn.ModuleList([Cell(width, blocks, frames) for _ in range(cells)])
        )
        features, hidden = self.cells[-1].feature_channels, self.cells[-1].hidden_channels
        self.channels = {"features": features, "hidden": hidden}
        self.state_channels = (hidden,)
        half, full = scaled(40, width), scaled(20, width)
        self.decoder = ConvSequential(
            nn.ConvTranspose2d(features, half, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(half, full, 3, stride=2, padding=1, output_padding=1),
            nn.Conv2d(full, 3, 5, padding=2),
        )

    def stem(self, frames: Tensor) -> Stem:
        return tuple(cell.encoder(frames) for cell in self.cells)

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        (hidden,) = state
        for cell, encoded in zip(self.cells[:-1], stem[:-1], strict=True):
            hidden = cell.update(cell.features(encoded, hidden))
        cell, encoded = self.cells[-1], stem[-1]
        for _ in range(self.passes - 1):
            hidden = cell.update(cell.features(encoded, hidden))
        return {"features": cell.features(encoded, hidden)}

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden = self.cells[-1].update(tensors["features"])
        return {"hidden": hidden}, (hidden,)

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    @property
    def input_layers(self) -> list[Convolution]:
        return [cell.encoder.convolution(0) for cell in self.cells]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-1)
