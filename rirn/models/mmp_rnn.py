"""MMP-RNN: ESTRNN's cell guided by how far each pixel moved during the exposure (Wang et al., "Efficient Video Deblurring
Guided by Motion Magnitude", ECCV 2022).

[P] is from the paper, [C] from the public code, sollynoay/MMP-RNN (MIT), [O] our own choice; docs/readings.md says more.

- [P] A U-Net, MMP-Net, estimates the motion magnitude of each pixel; it scales the features of the frame in front of residual
  dense blocks. The features of neighbouring frames are fused in front of the head. [C] All layers and their sizes.
- [C] The cell also reads the features of the previous frame, before the trunk. The trunk has 7 dense blocks, the head 8.
- [P] MMP-Net is trained first, on optical flow, and then frozen. [O] Here it is trained with the rest, from the deblurring
  loss alone, since this package has no weights for it.
- [O] Ends of a video repeat features, and frames with sides below 16 pixels are padded for MMP-Net by repeating the last rows.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn.errors import RirnError
from rirn.models.base import BaseNetwork, BaseState, Stem, Tensors, scaled
from rirn.models.rdbn import RDB, Trunk, check_n_features, decoder
from rirn.models.window import Window, repeat_ends
from rirn.nn.blocks import conv3, folded
from rirn.nn.convolutions import Convolution, ConvSequential, conv1x1
from rirn.ops.conv3x3_chain import conv3x3_chain, runs_kernel

LEVELS = 4
"""Times that MMP-Net halves the frame."""
REDUCTION = 16
"""Ratio of the attention's input channels to those of its bottleneck."""


class DoubleConv(nn.Module):
    """Twice ``relu(norm(conv3(x)))``, with batch norm, on the concatenation of inputs [N, C_k, H, W] -> [N, out, H, W].

    In evaluation mode, where our kernels run, the norms are folded into the convolutions before them.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1, self.norm1 = conv3(in_channels, out_channels), nn.BatchNorm2d(out_channels)
        self.conv2, self.norm2 = conv3(out_channels, out_channels), nn.BatchNorm2d(out_channels)

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.training or not runs_kernel(inputs, list(self.parameters())):
            x = torch.relu(self.norm1(self.conv1(torch.cat(inputs, 1))))
            return torch.relu(self.norm2(self.conv2(x)))
        weights, biases = zip(folded(self.conv1, self.norm1), folded(self.conv2, self.norm2), strict=True)
        return conv3x3_chain(inputs, weights, biases, [0, 0], [False, False])


class MMPNet(nn.Module):
    """Motion magnitude of each pixel in (0, 1), [N, 1, H, W], from frames [N, 3, H, W] minus 1/2.

    Args:
        width: factor on the channels, 16, 32, 64, 128 and 128 on the way down, each rounded to a multiple of 4.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        full, *lower = down = [scaled(c, width) for c in (16, 32, 64, 128, 128)]
        up = [*down[-3::-1], full]  # 64, 32, 16, 16
        self.first = nn.Conv2d(3, full, 9, padding=4)
        self.enter = DoubleConv(full, full)
        self.down = nn.ModuleList([DoubleConv(a, b) for a, b in pairwise([full, *lower])])
        below = [down[-1], *up[:-1]]
        self.up = nn.ModuleList(
            [DoubleConv(a + b, c) for a, b, c in zip(down[-2::-1], below, up, strict=True)]
        )
        self.refine = RDB(full, full // 2)
        self.last = nn.Conv2d(full, 1, 1)

    def forward(self, frames: Tensor) -> Tensor:
        h, w = frames.shape[2:]
        least = 2**LEVELS
        if h < least or w < least:
            frames = F.pad(frames, (0, max(0, least - w), 0, max(0, least - h)), mode="replicate")
        levels = [self.enter(self.first(frames))]
        for block in self.down:
            levels.append(block(F.max_pool2d(levels[-1], 2)))
        x = levels.pop()
        for block, level in zip(self.up, reversed(levels), strict=True):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
            bottom, right = level.shape[2] - x.shape[2], level.shape[3] - x.shape[3]
            if bottom or right:  # 1 where the side was odd: a row or column of zeros
                x = F.pad(x, (0, right, 0, bottom))
            x = block(level, x)
        return torch.sigmoid(conv1x1([self.refine(x)], self.last))[..., :h, :w]


class FrameFusion(nn.Module):
    """Merges the features of several frames into one, n * c channels -> c, by a 1x1 convolution.

    Args:
        frames: n, number of frames.
        channels: c.
        attention: first weight all n * c channels, by two 1x1 convolutions of their means over the image.
    """

    def __init__(self, frames: int, channels: int, attention: bool):
        super().__init__()
        together = frames * channels
        kept = max(1, together // REDUCTION)
        self.attention = (
            nn.Sequential(nn.Conv2d(together, kept, 1), nn.ReLU(), nn.Conv2d(kept, together, 1), nn.Sigmoid())
            if attention
            else None
        )
        self.condense = nn.Conv2d(together, channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # [N, n * c, H, W] -> [N, c, H, W]
        if self.attention is not None:
            x = x * self.attention(x.mean((2, 3), keepdim=True))
        return conv1x1([x], self.condense)


class MMPRNN(BaseNetwork):
    """The cell of RDBN, guided by MMP-Net, with dense blocks in the head, which reads the features of several frames.

    Args:
        width: factor on all internal channels, each rounded to a multiple of 4.
        blocks: dense blocks in the trunk.
        head_blocks: dense blocks in the head.
        past: earlier frames whose features the head reads.
        future: later frames, which the output waits for.
        ends: at the ends of a video ``"replicate"`` repeats the features of the first and the last frame, our
            choice; ``"drop"`` returns no image there, as public code does.
        attention: weight the channels of the frames' features before the head. One of two versions of the public code does
            so; the other has the weights for it but leaves it out.
        n_features: n of the public code instead of ``width``, leaving MMP-Net unchanged: n, 2n and 2n channels at full, half
            and quarter size, 5n for f_t, growth n, 1.5n rounded down and 2n. 0 uses ``width``.

    Raises:
        RirnError: ``blocks`` or ``head_blocks`` is below 1, ``past`` or ``future`` is negative, ``ends`` is neither of the two,
            or ``n_features`` is negative, 1, or given with a ``width``.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        blocks: int = 7,
        head_blocks: int = 8,
        past: int = 2,
        future: int = 2,
        ends: str = "replicate",
        attention: bool = True,
        n_features: int = 0,
    ):
        super().__init__()
        if blocks < 1 or head_blocks < 1:
            raise RirnError(f"blocks and head_blocks must be at least 1; got {blocks} and {head_blocks}")
        if past < 0 or future < 0:
            raise RirnError(f"past and future must not be negative; got {past} and {future}")
        check_n_features(n_features, width)
        if n_features == 1:
            raise RirnError("n_features must be at least 2 here, for half of them guide; got 1")
        n = n_features
        full, half, guide = (n, 2 * n, n // 2) if n else (scaled(c, width) for c in (16, 32, 8))
        least, middle, most = (n, 3 * n // 2, 2 * n) if n else (scaled(c, width) for c in (16, 24, 32))
        hidden, features = full, 2 * half + full
        self.channels = {"features": features, "hidden": hidden}
        self.state_channels = (hidden, half)
        self.feature_window = Window(past, future, repeat_ends(ends))
        self.motion = MMPNet(width)
        self.guide = ConvSequential(nn.Conv2d(1, guide, 1), nn.LeakyReLU(0.1), nn.Conv2d(guide, full, 1))
        self.first = ConvSequential(nn.Conv2d(3, full, 5, padding=2))
        self.encoder = ConvSequential(
            RDB(full, least),
            nn.Conv2d(full, half, 5, stride=2, padding=2),
            RDB(half, middle),
            nn.Conv2d(half, half, 5, stride=2, padding=2),
        )
        self.trunk = Trunk(features, most, blocks)
        self.state_update = ConvSequential(conv3(features, hidden), RDB(hidden, least), conv3(hidden, hidden))
        self.fusion = FrameFusion(self.feature_window.size, features, attention)
        self.head_trunk = Trunk(features, most, head_blocks)
        self.decoder = decoder(features, half, full)

    def stem(self, frames: Tensor) -> Stem:
        guided = self.first(frames) * (1 + self.guide(self.motion(frames)))
        return (self.encoder(guided),)

    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        hidden, before = state
        return {"features": self.trunk(torch.cat([*stem, before, hidden], 1))}

    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        hidden = self.state_update(tensors["features"])
        return {"hidden": hidden}, (hidden, *stem)

    def head(self, x: Tensor) -> Tensor:
        return self.decoder(self.head_trunk(self.fusion(x)))

    @property
    def input_layers(self) -> list[Convolution]:
        return [self.first.convolution(0), self.motion.first]

    @property
    def output_layer(self) -> Convolution:
        return self.decoder.convolution(-1)
