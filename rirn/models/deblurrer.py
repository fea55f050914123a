"""The composition: a base network, alone or with IRM, ATB and the fusing reconstructor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn.models.base import BaseNetwork, Stem
from rirn.models.state import State
from rirn.nn import ATB, IRM, Fuse

MULTIPLE = 4
"""Sides of the frames inside a model are multiples of this; frames are padded by replication and the output is cropped."""


class VideoDeblurrer(nn.Module):
    """Recurrent video deblurring: frames in, sharp frames out, with the state in the caller's hands.

    Frames are RGB in [0, 1]; outputs are not clamped. Any frame size is accepted.

    Args:
        base: the base network.
        irm: add the inner-recurrence module (equation 3).
        atb: add adaptive temporal blending (equation 4).
        fuse: put the reconstructor's fusing layers in front of the head; implied by ``irm`` and ``atb``. Alone it makes the
            control of an ablation: the added capacity without the added memory.
        residual: the network predicts the difference to its input frame, and starts at zero. Not in the paper; a short training
            of the plain form stays below its own input.

    Example:
        >>> import torch, rirn
        >>> model = rirn.create_model("ifi-rnn+rirn", width=0.2)
        >>> clip = torch.rand(1, 3, 3, 30, 46)  # [N, T, 3, H, W]
        >>> with torch.no_grad():
        ...     whole = model(clip)
        ...     first, state = model.step(clip[:, 0], None)
        >>> whole.shape, first.shape
        (torch.Size([1, 3, 3, 30, 46]), torch.Size([1, 3, 30, 46]))
    """

    def __init__(
        self,
        base: BaseNetwork,
        *,
        irm: bool = False,
        atb: bool = False,
        fuse: bool = False,
        residual: bool = False,
    ):
        super().__init__()
        self.base = base
        self.irm = IRM(base.hidden_channels) if irm else None
        self.atb = ATB(base.feature_channels) if atb else None
        f, h = base.feature_channels, base.hidden_channels
        channels = f + h + (h if irm else 0) + (f if atb else 0)
        self.fuse = Fuse(channels, base.head_channels, base.fuse_blocks) if fuse or irm or atb else None
        self.residual = residual
        if residual:
            nn.init.zeros_(base.output_layer.weight)
            nn.init.zeros_(base.output_layer.bias)

    @property
    def delay(self) -> int:
        """Frames of look-ahead: ``step`` returns the frame that came this many steps earlier."""
        return 0

    def step(
        self,
        frame: Tensor,  # [N, 3, H, W]  RGB in [0, 1]
        state: State | None,  # None at the start of a sequence
    ) -> tuple[Tensor, State]:  # [N, 3, H, W] and the state for the next frame
        """Restore one frame.

        Raises:
            ValueError: the frame has the wrong shape, or another batch or size than the state was made with.
        """
        if frame.ndim != 4 or frame.shape[1] != 3:
            raise ValueError(f"frame must be [N, 3, H, W], RGB in [0, 1]; got {list(frame.shape)}")
        padded = _pad(frame)
        stem = self.base.stem(padded - 0.5)
        if state is None:
            state = self._initial_state(stem)
        else:
            self._check_state(state, padded)
        tensors, state = self._recur(stem, state)
        return self._decode(tensors, padded)[..., : frame.shape[2], : frame.shape[3]], state

    def forward(
        self,
        clip: Tensor,  # [N, T, 3, H, W]  RGB in [0, 1]
        state: State | None = None,  # of the clip before this one; None at the start of a sequence
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]:  # [N, T, 3, H, W]
        """Restore a clip; the same recurrence as :meth:`step`.

        What does not depend on the state, the stem and the head, runs once for all frames, which the convolution library
        rewards with larger batches; memory grows with the length, so step through long videos instead.

        Raises:
            ValueError: the clip has the wrong shape or no frames, or does not fit the state.
        """
        if clip.ndim != 5 or clip.shape[2] != 3 or clip.shape[1] == 0:
            raise ValueError(f"clip must be [N, T, 3, H, W] with T >= 1, RGB in [0, 1]; got {list(clip.shape)}")
        n, t = clip.shape[:2]
        # Time first, so that the frames of one instant are neighbours in memory.
        padded = _pad(clip.transpose(0, 1).reshape(t * n, *clip.shape[2:]))
        stem = self.base.stem(padded - 0.5)
        steps = list(zip(*(tensor.split(n) for tensor in stem), strict=True))
        if state is None:
            state = self._initial_state(steps[0])
        else:
            self._check_state(state, padded[:n])
        decoded = []
        for step in steps:
            tensors, state = self._recur(step, state)
            decoded.append(tensors)
        batched = [torch.cat(tensors) for tensors in zip(*decoded, strict=True)]
        sharp = self._decode(batched, padded)[..., : clip.shape[3], : clip.shape[4]]
        sharp = sharp.reshape(t, n, *clip.shape[2:]).transpose(0, 1)
        return (sharp, state) if return_state else sharp

    def _initial_state(self, stem: Stem) -> State:
        base = self.base.initial_state(stem)
        n, _, h, w = base[0].shape
        return State(
            base,
            None if self.irm is None else base[0].new_zeros(n, self.irm.channels, h, w),
            None if self.atb is None else base[0].new_zeros(n, self.atb.channels, h, w),
        )

    def _check_state(self, state: State, padded: Tensor) -> None:
        n, _, h, w = padded.shape
        stride = self.base.stride
        expected = (n, h // stride, w // stride)
        if (state.inner is None) != (self.irm is None) or (state.blended is None) != (self.atb is None):
            raise ValueError("this state was made by another kind of model; give a state of this model, or None to start afresh")
        for name, tensor in state.tensors().items():
            if (tensor.shape[0], *tensor.shape[2:]) != expected:
                raise ValueError(
                    f"state {name} {list(tensor.shape)} does not fit frames [{n}, 3, {h}, {w}] (it needs batch {n} and "
                    f"{expected[1]}x{expected[2]}); pass None when the video or its frame size changes"
                )

    def _recur(self, stem: Stem, state: State) -> tuple[list[Tensor], State]:
        """Encoder, IRM and ATB of one frame; the tensors that the reconstructor reads, in its fixed order."""
        features = self.base.features(stem, state.base)
        hidden, base_state = self.base.hidden(features, state.base)
        inner = None if self.irm is None else self.irm(hidden, state.inner)
        blended = None if self.atb is None else self.atb(features, state.blended)
        if self.fuse is None:
            tensors = [self.base.plain_input(features, hidden)]
        else:
            tensors = [t for t in (features, hidden, inner, blended) if t is not None]
        return tensors, State(base_state, inner, blended)

    def _decode(self, tensors: list[Tensor], padded: Tensor) -> Tensor:
        image = self.base.head(tensors[0] if self.fuse is None else self.fuse(tensors))
        return image + padded if self.residual else image + 0.5


def _pad(frames: Tensor) -> Tensor:
    """[M, 3, H, W] with H and W brought up to multiples of 4 by replicating the last row and column."""
    bottom, right = -frames.shape[-2] % MULTIPLE, -frames.shape[-1] % MULTIPLE
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames
