"""STFAN: spatio-temporal filter adaptive network (Zhou et al., ICCV 2019).

Layers follow the public implementation in sczhou/STFAN. One convolution ("fea") is at the end of the step
here instead of the start of the next one: the numbers are the same and the state has half the channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.nn.blocks import ResBlock, bias_of, conv3
from rirn.nn.convolutions import Convolution, ConvSequential
from rirn.nn.fac import FAC

TAPS = 25


def act() -> nn.Module:
    # In place: a tensor of filters takes 0.7 GiB at 1280x720, and nothing else needs what the convolution returned.
    return nn.LeakyReLU(0.1, inplace=True)


def stage(layer: nn.Module, channels: int) -> Iterator[nn.Module]:
    """A convolution with its activation, then two residual blocks."""
    yield from (layer, act(), ResBlock(channels, slope=0.1), ResBlock(channels, slope=0.1))


def pyramid(in_channels: int, widths: tuple[int, int, int]) -> ConvSequential:
    """Three stages down to a quarter of the size: [N, in, H, W] -> [N, widths[2], H/4, W/4]."""
    full, half, quarter = widths
    return ConvSequential(
        *stage(nn.Conv2d(in_channels, full, 3, padding=1), full),
        *stage(nn.Conv2d(full, half, 3, stride=2, padding=1), half),
        *stage(nn.Conv2d(half, quarter, 3, stride=2, padding=1), quarter),
    )


class STFAN(BaseNetwork):
    """Predicts a filter for every pixel of every channel, to align the state with the frame and to deblur the
    frame.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        clamp_feedback: clamp the restored image that the next step reads to the range of images, as
            sczhou/STFAN does.
        input_shift: subtracted from frames in [0, 1]; 0 for public weights, which read them unchanged.
    """

    head_reads: ClassVar[tuple[str, ...]] = ("features", "aligned")
    fuse_reads: ClassVar[tuple[str, ...]] = ("features", "aligned", "hidden", "inner", "blended")
    fuse_blocks: ClassVar[int] = 0
    adds_input: ClassVar[bool] = True
    predicts_filters: ClassVar[bool] = True
    feeds_back: ClassVar[bool] = True

    channels_last = False  # the kernels of fac are faster on planes

    def __init__(self, *, width: float = 1.0, clamp_feedback: bool = True, input_shift: float = 0.5):
        super().__init__()
        self.clamp_feedback, self.input_shift = clamp_feedback, input_shift
        full, half, quarter = widths = scaled(32, width), scaled(64, width), scaled(128, width)
        self.channels = {"features": quarter, "hidden": quarter, "aligned": quarter}
        self.state_channels, self.state_strides = (quarter, 3, 3), (4, 1, 1)
        self.kernel_net = pyramid(9, widths)
        self.align_head = ConvSequential(
            *stage(conv3(quarter, quarter), quarter), nn.Conv2d(quarter, TAPS * quarter, 1), act()
        )
        self.squeeze = ConvSequential(nn.Conv2d(TAPS * quarter, quarter, 1), act())
        self.deblur_head = ConvSequential(
            *stage(conv3(2 * quarter, quarter), quarter), nn.Conv2d(quarter, TAPS * quarter, 1), act()
        )
        self.encoder = pyramid(3, widths)
        self.fac = FAC()
        self.state_update = ConvSequential(conv3(2 * quarter, quarter), act())
        self.decoder = ConvSequential(
            *stage(nn.ConvTranspose2d(2 * quarter, half, 4, stride=2, padding=1), half),
            *stage(nn.ConvTranspose2d(half, full, 4, stride=2, padding=1), full),
            conv3(full, 3),
            act(),
        )
        for layer in self.modules():
            if isinstance(layer, Convolution):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(bias_of(layer))

    def stem(self, frames: Tensor) -> Stem:
        return self.encoder(frames), frames

    def initial_state(self, stem: Stem) -> BaseState:
        encoded, frame = stem
        return self.state_update(torch.cat([encoded, encoded], 1)), frame, frame

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        encoded, frame = stem
        hidden, last_frame, last_image = state
        triple = self.kernel_net(torch.cat([frame, last_frame, last_image], 1))
        align = self.align_head(triple)
        aligned = self.fac(hidden, align)
        squeezed = self.squeeze(align)
        del align  # 25 times the features: the largest tensor here, and another one of its size follows
        deblurred = self.fac(encoded, self.deblur_head(torch.cat([triple, squeezed], 1)))
        return {"features": deblurred, "aligned": aligned}

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden = self.state_update(torch.cat([tensors["features"], tensors["aligned"]], 1))
        return {"hidden": hidden}, (hidden, stem[1])

    def feedback(self, state: BaseState, image: Tensor) -> BaseState:
        if self.clamp_feedback:
            image = image.clamp(-self.input_shift, 1 - self.input_shift)
        return *state, image

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    @property
    def input_layers(self) -> list[Convolution]:
        return [self.kernel_net.convolution(0), self.encoder.convolution(0)]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-2)

    @torch.no_grad()
    def init_filters(self) -> None:
        for head in (self.align_head, self.deblur_head):
            layer = head.convolution(-2)
            nn.init.zeros_(layer.weight)
            taps = nn.init.zeros_(bias_of(layer)).view(-1, TAPS)
            taps[:, TAPS // 2] = 1
