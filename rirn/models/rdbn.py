"""Residual dense recurrent networks: RDBN, and ESTRNN, which is RDBN with cached features (Zhong et al., ECCV
2020).

Layers follow the public implementation in zzh-tech/ESTRNN. RDBN is the name that the RIRN paper gives to
ESTRNN without its global spatio-temporal attention. MMP-RNN is made of the same blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from rirn.errors import RirnError
from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.models.window import Window, repeat_ends
from rirn.nn.blocks import conv3, run_chain
from rirn.nn.convolutions import Convolution, ConvSequential, conv1x1
from rirn.nn.gsa import GSA

LAYERS = 3
"""Dense layers of a block."""


class RDB(nn.Module):
    """Residual dense block: three times ``x = [x, gelu(conv3(x))]``, then conv1 back to C channels, plus the
    input.

    Args:
        channels: C, of input and output [N, C, H, W].
        growth: channels that each dense layer adds.
    """

    def __init__(self, channels: int, growth: int):
        super().__init__()
        layers = [conv3(channels + i * growth, growth) for i in range(LAYERS)]
        self.dense = cast("Sequence[nn.Conv2d]", nn.ModuleList(layers))
        self.condense = nn.Conv2d(channels + LAYERS * growth, channels, 1)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        grown = [x]
        for layer in self.dense:
            grown.append(self.gelu(run_chain(grown, [layer], [1])))
        return x + conv1x1(grown, self.condense)


class Trunk(nn.Module):
    """F_R: a chain of dense blocks whose outputs are all concatenated and condensed, [N, C, H, W] -> the same."""

    def __init__(self, channels: int, growth: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList([RDB(channels, growth) for _ in range(blocks)])
        self.condense = nn.Sequential(nn.Conv2d(blocks * channels, channels, 1), conv3(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        first, last = cast("Iterable[nn.Conv2d]", self.condense)
        return run_chain([conv1x1(outputs, first)], [last], [1])


def decoder(channels: int, half: int, full: int) -> ConvSequential:
    """ESTRNN's reconstructor: [N, channels, H/4, W/4] -> [N, 3, H, W] through ``half`` and ``full`` channels, no activation."""
    return ConvSequential(
        nn.ConvTranspose2d(channels, half, 3, stride=2, padding=1, output_padding=1),
        nn.ConvTranspose2d(half, full, 3, stride=2, padding=1, output_padding=1),
        nn.Conv2d(full, 3, 5, padding=2),
    )


def check_n_features(n_features: int, width: float) -> None:
    """Check a number of features.

    Raises:
        RirnError: it is negative, or given together with a width.
    """
    if n_features < 0 or (n_features and width != 1):
        raise RirnError(
            f"n_features must be at least 1 and takes the place of width; got {n_features} and width {width}"
        )


class RDBN(BaseNetwork):
    """The recurrent cell of ESTRNN with a head that reads only the features of the current frame.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        blocks: dense blocks in the trunk; 15 is the public default (B15C80), 9 the cheaper B9C80.
        n_features: n of the public code instead of ``width``: n, 2n and 4n channels at full, half and quarter size, 5n for
            f_t (C80 is n = 16), growth n, 1.5n rounded down and 2n, nothing rounded to a multiple of 4. 0 uses ``width``.
        input_shift: subtracted from frames in [0, 1]; 0 for weights that read them unchanged.

    Raises:
        RirnError: ``blocks`` is below 1, or ``n_features`` is negative or given with a ``width``.
    """

    def __init__(
        self, *, width: float = 1.0, blocks: int = 15, n_features: int = 0, input_shift: float = 0.5
    ):
        super().__init__()
        if blocks < 1:
            raise RirnError(f"blocks must be at least 1; got {blocks}")
        check_n_features(n_features, width)
        self.input_shift = input_shift
        n = n_features
        full, half, quarter = (n, 2 * n, 4 * n) if n else (scaled(c, width) for c in (16, 32, 64))
        least, middle, most = (n, 3 * n // 2, 2 * n) if n else (scaled(c, width) for c in (16, 24, 32))
        hidden, features = full, quarter + full
        self.channels = {"features": features, "hidden": hidden}
        self.state_channels = (hidden,)
        self.encoder = ConvSequential(
            nn.Conv2d(3, full, 5, padding=2),
            RDB(full, least),
            nn.Conv2d(full, half, 5, stride=2, padding=2),
            RDB(half, middle),
            nn.Conv2d(half, quarter, 5, stride=2, padding=2),
        )
        self.trunk = Trunk(features, most, blocks)
        self.state_update = ConvSequential(conv3(features, hidden), RDB(hidden, least), conv3(hidden, hidden))
        self.decoder = decoder(features, half, full)

    def stem(self, frames: Tensor) -> Stem:
        return (self.encoder(frames),)

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        return {"features": self.trunk(torch.cat([*stem, *state], 1))}

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden = self.state_update(tensors["features"])
        return {"hidden": hidden}, (hidden,)

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    @property
    def input_layers(self) -> list[Convolution]:
        return [self.encoder.convolution(0)]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-1)


class ESTRNN(RDBN):
    """RDBN whose head attends to the features of neighbouring frames (GSA); the recurrence is untouched.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        blocks, n_features, input_shift: as for :class:`RDBN`.
        past: earlier frames whose features are kept.
        future: later frames, which the output waits for; 0 makes the causal form that the RIRN paper compares
            with.
        ends: at the ends of a video ``"replicate"`` repeats the features of the first and the last frame, our
            choice; ``"drop"`` returns no image there, as public code does.

    Raises:
        RirnError: ``past`` or ``future`` is negative, or both are 0, or ``ends`` is neither of the two.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        blocks: int = 15,
        past: int = 2,
        future: int = 2,
        ends: str = "replicate",
        n_features: int = 0,
        input_shift: float = 0.5,
    ):
        super().__init__(width=width, blocks=blocks, n_features=n_features, input_shift=input_shift)
        if past < 0 or future < 0 or past + future == 0:
            raise RirnError(f"past and future must not be negative, nor both 0; got {past} and {future}")
        self.feature_window = Window(past, future, repeat_ends(ends))
        frames, features = self.feature_window.size, self.channels["features"]
        self.gsa = GSA(features, frames, past)
        half, full = (self.decoder.convolution(i).out_channels for i in (0, 1))
        self.decoder = decoder(frames * features, half, full)

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(self.gsa(x.chunk(self.feature_window.size, 1)))
