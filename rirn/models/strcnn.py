"""STRCNN with dynamic temporal blending: online video deblurring (Kim, Lee, Schoelkopf, Hirsch, ICCV 2017).

Layers follow the public implementations in zzh-tech/ESTRNN and ljzycmd/SimDeblur.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.models.window import Window, repeat_ends
from rirn.nn.blocks import conv3, folded
from rirn.nn.convolutions import Convolution, ConvSequential
from rirn.nn.dtb import DTB
from rirn.ops.conv3x3_chain import conv3x3_chain, runs_kernel

FRAMES_AROUND = 2
"""Frames that the encoder sees before and after the current one."""


class NormResBlock(nn.Module):
    """``relu(x + norm(conv3(relu(norm(conv3(x))))))`` on [N, C, H, W], with batch norm and a ReLU after the sum.

    In evaluation mode, where our kernels run, the norms are folded into the convolutions before them.

    The last norm's scale starts at zero, so an untrained block passes its input through (Goyal et al., 2017). With ones,
    what reaches the last layer says almost nothing about the blur; if that layer starts at zero as well
    (``residual=True``), L1 keeps it there.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.norm1 = conv3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = conv3(channels, channels), nn.BatchNorm2d(channels)
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not runs_kernel([x], list(self.parameters())):
            return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))
        weights, biases = zip(folded(self.conv1, self.norm1), folded(self.conv2, self.norm2), strict=True)
        return conv3x3_chain([x], weights, biases, [0, 0], [False, True])


class STRCNN(BaseNetwork):
    """Five frames in, the sharp middle one out, two frames late; its own DTB blends f_t over time.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        dtb: variant of the blending, see :class:`rirn.nn.DTB`.
        ends: at the ends of a video ``"replicate"`` repeats the first and the last frame, our choice;
            ``"drop"`` returns no image for the two frames at either end, as public code does.

    Raises:
        RirnError: ``dtb`` or ``ends`` is unknown.
    """

    stride: ClassVar[int] = 2
    multiple: ClassVar[int] = 2
    head_reads: ClassVar[tuple[str, ...]] = ("latent",)
    fuse_reads: ClassVar[tuple[str, ...]] = ("latent", "features", "blended", "hidden", "inner")
    fuse_blocks: ClassVar[int] = 0

    def __init__(self, *, width: float = 1.0, dtb: str = "ovd", ends: str = "replicate"):
        super().__init__()
        narrow = scaled(32, width)
        wide = 2 * narrow
        self.channels = {"features": wide, "hidden": narrow, "latent": wide}
        self.state_channels = (narrow, wide)
        self.stem_window = Window(FRAMES_AROUND, FRAMES_AROUND, repeat_ends(ends))
        self.encoder = ConvSequential(
            nn.Conv2d(3 * self.stem_window.size, wide, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(wide, narrow, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        self.encoder_trunk = nn.Sequential(*[NormResBlock(wide) for _ in range(4)])
        self.dtb: DTB | None = DTB(wide, variant=dtb)
        self.decoder_trunk = nn.Sequential(*[NormResBlock(wide) for _ in range(4)])
        self.decoder = ConvSequential(
            nn.ConvTranspose2d(wide, wide, 4, stride=2, padding=1), nn.ReLU(), conv3(wide, 3)
        )
        self.state_update = ConvSequential(conv3(wide, narrow), nn.ReLU())

    def remove_blending(self) -> None:
        self.dtb = None
        self.state_channels = self.state_channels[:1]

    def stem(self, frames: Tensor) -> Stem:
        return (self.encoder(frames),)

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        return {"features": self.encoder_trunk(torch.cat([*stem, state[0]], 1))}

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        blended = self.dtb(f_prev=state[1], f_cur=tensors["features"]) if self.dtb else tensors["blended"]
        latent = self.decoder_trunk(blended)
        hidden = self.state_update(latent)
        return {"hidden": hidden, "latent": latent}, (hidden, blended) if self.dtb else (hidden,)

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(x)

    @property
    def input_layers(self) -> list[Convolution]:
        return [self.encoder.convolution(0)]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-1)
