"""The interface of a base network, on which RIRN, or nothing, can be put."""

from __future__ import annotations

import abc
from typing import ClassVar

from torch import Tensor, nn

from rirn.models.window import Window
from rirn.nn.convolutions import Convolution

Stem = tuple[Tensor, ...]
BaseState = tuple[Tensor, ...]
Tensors = dict[str, Tensor]


class BaseNetwork(nn.Module, abc.ABC):
    """A recurrent deblurrer cut where RIRN attaches: encoder (equation 1) and head (equation 2).

    A frame passes through ``stem -> encode -> update -> head``. Frames come in as x - ``input_shift`` with sides
    that are multiples of ``multiple``. The stages exchange tensors by name, [N, c, H/stride, W/stride] each:
    ``features`` is f_t, ``hidden`` is h_t, others are the network's own. A base network knows nothing about
    RIRN; it only says in which order the tensors would be fused.

    Attributes:
        channels: channels of each named tensor; at least ``features`` and ``hidden``.
        state_channels: channels of each tensor of the state, h_t first.
        state_strides: frame size over size of each tensor of the state; None where all are ``stride``.
        head_reads: tensors that :meth:`head` reads, concatenated, when nothing is put on top.
        fuse_reads: order of all tensors that RIRN fuses in front of the head, starting with ``head_reads``; ``inner`` is
            h~_t and ``blended`` f~_t, and those that do not exist are left out.
        fuse_blocks: residual blocks after the fusing convolution; 0 if the head has its own activations.
        stride: frame size over size of f_t and h_t.
        multiple: frame sides that the network takes are multiples of this; other frames are padded by replication and
            the image is cropped.
        stem_window: frames that the stem reads at once, concatenated; a :class:`rirn.Window` of the past and the future.
        feature_window: frames whose ``head_reads``, fused or not, the head reads at once, concatenated.
        input_shift: subtracted from frames in [0, 1] on their way in and added to the image on its way out.
        adds_input: the head's output is a difference to the input frame.
        predicts_filters: what the head reads has passed filters that the network predicts. Random ones leave almost nothing
            of the frame; in a residual model :meth:`init_filters` makes them identities, and fusing layers start as one,
            too.
        channels_last: on a GPU, run steps in this memory format, for which torch's convolutions in half precision
            are made.
        feeds_back: the state needs the restored image; :meth:`feedback` takes it.
    """

    channels: dict[str, int]
    state_channels: tuple[int, ...]
    state_strides: tuple[int, ...] | None = None
    head_reads: ClassVar[tuple[str, ...]] = ("features",)
    fuse_reads: ClassVar[tuple[str, ...]] = ("features", "hidden", "inner", "blended")
    fuse_blocks: ClassVar[int] = 1
    stride: ClassVar[int] = 4
    multiple: ClassVar[int] = 4
    stem_window: Window = Window()
    feature_window: Window = Window()
    input_shift: float = 0.5
    adds_input: ClassVar[bool] = False
    predicts_filters: ClassVar[bool] = False
    channels_last: ClassVar[bool] = True
    feeds_back: ClassVar[bool] = False

    @property
    def head_channels(self) -> int:
        """Channels that :meth:`head` reads from one frame."""
        return sum(self.channels[name] for name in self.head_reads)

    @abc.abstractmethod
    def stem(self, frames: Tensor) -> Stem:
        """Compute everything that depends on the frames alone, for a whole clip in one call.

        [M, 3 * stem_window.size, H, W] -> tensors [M, ...], the first of them of the size of f_t.
        """

    def initial_state(self, stem: Stem) -> BaseState:
        """Return the state before the first frame, for the batch, size, dtype and device of ``stem``; zeros by default."""
        h, w = (side * self.stride for side in stem[0].shape[2:])
        strides = self.state_strides or (self.stride,) * len(self.state_channels)
        sides = [(c, h // s, w // s) for c, s in zip(self.state_channels, strides, strict=True)]
        return tuple(zeros_like(stem[0], *side) for side in sides)

    @abc.abstractmethod
    def encode(self, stem: Stem, state: BaseState) -> Tensors:
        """Return f_t as ``features``, and the network's own tensors."""

    @abc.abstractmethod
    def update(self, tensors: Tensors, stem: Stem, state: BaseState) -> tuple[Tensors, BaseState]:
        """Return h_t as ``hidden``, with other tensors of the network's own, and the state for the next frame.

        ``tensors`` are those of :meth:`encode`, with f~_t as ``blended`` if a blending module made it.
        """

    def feedback(self, state: BaseState, image: Tensor) -> BaseState:
        """Return the state with the restored image [N, 3, H, W], shifted like the frames; only with ``feeds_back``."""
        raise TypeError(f"{type(self).__name__} reads no restored image")

    def remove_blending(self) -> None:
        """Remove the network's own temporal blending, if any: another one takes its place."""

    @abc.abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """[N, head_channels * feature_window.size, H/stride, W/stride] -> image [N, 3, H, W], shifted."""

    @property
    @abc.abstractmethod
    def input_layers(self) -> list[Convolution]:
        """All first layers that read frames; a residual model makes their filters blind to brightness at the start of
        training."""

    @property
    @abc.abstractmethod
    def output_layer(self) -> Convolution:
        """Last layer of the head, which a residual model zeroes at the start of training."""

    def init_filters(self) -> None:
        """Turn the filters that the network predicts into identities, after a residual model has drawn its weights; only with
        ``predicts_filters``."""


def scaled(channels: int, width: float) -> int:
    """``channels * width`` rounded to a multiple of 4, at least 4."""
    return max(4, 4 * round(channels * width / 4))


def is_channels_last(images: Tensor) -> bool:
    """Whether the channels of a pixel of [N, C, H, W] are adjacent in memory."""
    return images.dim() == 4 and images.shape[1] > 1 and images.stride(1) == 1


def zeros_like(images: Tensor, c: int, h: int, w: int) -> Tensor:
    """Zeros [N, c, h, w] with the batch, dtype, device and memory format of images."""
    n = images.shape[0]
    if is_channels_last(images):
        return images.new_zeros(n, h, w, c).permute(0, 3, 1, 2)
    return images.new_zeros(n, c, h, w)
