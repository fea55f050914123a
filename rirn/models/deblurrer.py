"""The composition: a base network, alone or with IRM, temporal blending and the fusing reconstructor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rirn.models.base import BaseNetwork, Stem, is_channels_last, zeros_like
from rirn.models.init import preserve_variance_, remove_mean_
from rirn.models.recompute import recomputed
from rirn.models.state import State
from rirn.models.window import Window
from rirn.nn import ATB, DTB, IRM, Fuse
from rirn.nn.blocks import bias_of
from rirn.ops import use_precision
from rirn.ops._call import CASTABLE, is_autocast, keep_casts
from rirn.ops.packed import keep_packed
from rirn.ops.resize import enlarge_onto, halve

RESIDUAL_SCALE = 0.1
"""Factor on what a residual model adds to its input.

The difference between a sharp and a blurry frame is about 0.02 in size, which means weights of 0.001 in a last layer that
reads 300 activations of size 1; one step of Adam at a learning rate of 0.001 wipes these out. With the factor, the loss of a
width-0.6 model fell to 0.977 of the input's in 150 steps at 0.001; in a trial without it, at 0.0012 on other data, it was
still above the input's after 290.
"""


class VideoDeblurrer(nn.Module):
    """Recurrent video deblurring: frames in, sharp frames out, with the state in the caller's hands.

    Frames are RGB in [0, 1]; outputs are not clamped. Any frame size is accepted.

    Args:
        base: the base network.
        irm: add the inner-recurrence module (equation 3).
        atb: add adaptive temporal blending (equation 4), replacing the base network's own blending if it has
            one.
        dtb: add dynamic temporal blending instead of ATB, for comparison.
        fuse: put the reconstructor's fusing layers in front of the head; implied by ``irm``, ``atb`` and
            ``dtb``. On its own it makes the control of an ablation: the added capacity without the added memory.
        residual: the network predicts the difference to its input frame in units of ``RESIDUAL_SCALE`` and starts
            at zero; its other layers start with weights that preserve the variance of the signal, its first ones with
            filters that are blind to brightness. Not in the paper; after a short training run the plain form is still
            worse than its input.
        identity_init: start the fusing layers as the identity on what the head itself reads, so that the
            untrained model equals the base network. A residual STFAN always does.
        atb_decay: upper bound of the gate of f~_{t-1}, see :class:`~rirn.nn.ATB`; for videos longer than those in training.
        atb_max_weight: upper bound of the gate of f_t, likewise.
        half_resolution: the network works on frames of half the size, means of 2x2 pixels, and what it adds to its
            input is enlarged bilinearly: a quarter of the arithmetic and twice the reach. Only with ``residual``, since
            the finest detail comes from the input alone. Not in the paper.

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

    config: dict[str, Any]
    """Name and options, in models that :func:`~rirn.models.registry.create_model` made."""

    def __init__(
        self,
        base: BaseNetwork,
        *,
        irm: bool = False,
        atb: bool = False,
        dtb: bool = False,
        fuse: bool = False,
        residual: bool = False,
        identity_init: bool = False,
        atb_decay: float = 1.0,
        atb_max_weight: float = 1.0,
        half_resolution: bool = False,
    ):
        super().__init__()
        if atb or dtb:
            base.remove_blending()
        self.base = base
        self.irm = IRM(base.channels["hidden"]) if irm else None
        features = base.channels["features"]
        self.atb = ATB(features, max_weight=atb_max_weight, decay=atb_decay) if atb else None
        self.dtb = DTB(features) if dtb else None
        self.reads = list(base.head_reads)
        self.fuse = None
        if fuse or irm or atb or dtb:
            channels = dict(base.channels)
            if irm:
                channels["inner"] = channels["hidden"]
            if atb or dtb:
                channels["blended"] = channels["features"]
            self.reads = [name for name in base.fuse_reads if name in channels]
            width = sum(channels[name] for name in self.reads)
            self.fuse = Fuse(width, base.head_channels, base.fuse_blocks)
        self.residual = residual
        self.strength = 1.0
        """Factor on the difference that a residual model adds to its input: 0 returns the input, above 1 sharpens more."""
        self.precision: str | None = None
        """``exact`` or ``fast``, see :func:`rirn.ops.use_precision`; None follows the block in which the model is called."""
        self.half_resolution = half_resolution
        self.recompute = False
        """Keep no activations for the backward pass but recompute them, stage by stage: see
        :mod:`rirn.models.recompute`."""
        if residual:
            preserve_variance_(self)
            for layer in base.input_layers:
                remove_mean_(layer)
            nn.init.zeros_(base.output_layer.weight)
            nn.init.zeros_(bias_of(base.output_layer))
        filters = residual and base.predicts_filters
        if filters:
            base.init_filters()
        if self.fuse is not None and (identity_init or filters):
            self.fuse.init_identity()

    @property
    def stride(self) -> int:
        """Frame size over size of the features."""
        return self._scale * self.base.stride

    @property
    def delay(self) -> int:
        """Frames of look-ahead: ``step`` returns the frame that came this many steps earlier."""
        return self.base.stem_window.future + self.base.feature_window.future

    @property
    def lookback(self) -> int:
        """Past frames that the network reads along with the one that it restores; its state reaches further back."""
        return self.base.stem_window.past + self.base.feature_window.past

    @property
    def dropped(self) -> int:
        """Frames at the start of a video that get no image: 0 unless made with ``ends="drop"``, which also drops the
        last :attr:`delay` frames."""
        windows = (self.base.stem_window, self.base.feature_window)
        return sum(window.past for window in windows if not window.repeat_ends)

    def step(
        self,
        frame: Tensor,  # [N, 3, H, W]  RGB in [0, 1]
        state: State | None,  # None at the start of a sequence
    ) -> tuple[Tensor | None, State]:  # [N, 3, H, W] and the state for the next frame
        """Restore one frame.

        With a :attr:`delay`, the result is None while it fills and then belongs to the frame of that many
        steps ago; :meth:`flush` returns the rest.

        Raises:
            ValueError: the frame has the wrong shape or an integer dtype, or its batch or size differs from that of the
                state.
        """
        if frame.ndim != 4 or frame.shape[1] != 3:
            raise ValueError(f"frame must be [N, 3, H, W], RGB in [0, 1]; got {list(frame.shape)}")
        _check_float("frame", frame)
        layout = self.layout_on(frame.device)
        if layout is not None:
            frame = frame.contiguous(memory_format=layout)
        sharp, state = self._run([frame], state, end=False)
        return (sharp[0] if sharp else None), state

    def flush(self, state: State | None) -> list[Tensor]:  # [N, 3, H, W] each
        """Restore the frames that are still waiting when a video ends, oldest first; none without a :attr:`delay`."""
        return self._run([], state, end=True)[0]

    def forward(
        self,
        clip: Tensor,  # [N, T, 3, H, W]  RGB in [0, 1]
        state: State | None = None,  # of the clip before this one; None at the start of a sequence
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]:  # [N, T, 3, H, W]
        """Restore a clip with the same recurrence as :meth:`step`.

        What does not depend on the state runs once for all frames, in larger batches, which the convolution library
        runs faster; memory grows with the length, so step through long videos instead.

        With a :attr:`delay`, ``return_state`` means that more frames follow: only finished frames are
        returned. Without it the clip is the end of the sequence and the waiting frames are flushed.

        Raises:
            ValueError: the clip has the wrong shape, an integer dtype or no frames, or does not fit the state.
        """
        if clip.ndim != 5 or clip.shape[2] != 3 or clip.shape[1] == 0:
            raise ValueError(
                f"clip must be [N, T, 3, H, W] with T >= 1, RGB in [0, 1]; got {list(clip.shape)}"
            )
        _check_float("clip", clip)
        with keep_casts(), keep_packed(clip.device):
            sharp, state = self._run(clip.unbind(1), state, end=not return_state)
        restored = torch.stack(sharp, 1) if sharp else clip.new_empty(clip.shape[0], 0, *clip.shape[2:])
        return (restored, state) if return_state else restored

    def _run(
        self,
        frames: Sequence[Tensor],  # [N, 3, H, W] each
        state: State | None,
        end: bool,
    ) -> tuple[list[Tensor], State]:
        """The recurrence in the model's precision."""
        if self.precision is None:
            return self._run_frames(frames, state, end)
        with use_precision(self.precision):
            return self._run_frames(frames, state, end)

    def _run_frames(
        self, frames: Sequence[Tensor], state: State | None, end: bool
    ) -> tuple[list[Tensor], State]:
        """Run the recurrence over some frames; return all images completed by then, and the state.

        The stem and the head run once for all frames. What lies between them depends on the state and stays
        in the loop, and so does the head of a base network whose image is part of its state (``feeds_back``).
        By base: GRU and LSTM hoist all but the state's part of the gates; IFI-RNN, RDBN, MMP-RNN and STRCNN the encoder, since
        their trunk reads h_{t-1}; STFAN the encoder of the frame, since its filters and head read the previous image.
        """
        state = State() if state is None else self._in_working_dtype(state)
        self._check_state(state, frames)
        windows, waiting = self._frame_window.slide(state.frames, frames, end)
        centres = [window[0] for window in windows]
        windows, inputs = self.base.stem_window.slide(state.inputs, self._inputs(frames), end)
        sharp: list[Tensor] = []
        reads: list[tuple[Tensor, ...]] = []
        for i, stem in enumerate(self._stage(self._stems, windows)):
            tensors, state = self._stage(self._recur, stem, state)
            if self.base.feeds_back:
                image = self._stage(self._decode, [tensors], [centres[i - len(windows)]])
                fed = self.base.feedback(state.base, self._as_input(image))
                state = State(fed, state.inner, state.blended)
                sharp.append(image)
            else:
                reads.append(tensors)
        features = state.features
        if self.base.feature_window.size > 1:
            condensed = self._stage(self._condense, reads) if reads else []
            reads, features = self.base.feature_window.slide(features, condensed, end)
        if reads:
            # If the start is dropped, frames are ready before the features read from them.
            images = self._stage(self._decode, reads, centres[-len(reads) :])
            sharp = list(images.split(centres[0].shape[0]))
        h, w = centres[0].shape[2:] if centres else (0, 0)
        state = State(state.base, state.inner, state.blended, waiting, inputs, features)
        return [image[..., :h, :w] for image in sharp], state

    def _stage(self, stage: Callable[..., Any], *args: Any) -> Any:
        """Run a part of the recurrence, keeping or recomputing what its gradient needs."""
        return recomputed(self, stage, *args) if self.recompute else stage(*args)

    @property
    def _frame_window(self) -> Window:
        """Frames to keep: those that wait for later ones."""
        windows = (self.base.stem_window, self.base.feature_window)
        return Window(future=self.delay, repeat_ends=all(window.repeat_ends for window in windows))

    def _inputs(self, frames: Sequence[Tensor]) -> Sequence[Tensor]:
        """Frames as the network sees them, [N, 3, H, W] each."""
        if not frames:
            return ()
        seen = self._as_input(self._pad(_stack(frames)))
        return torch.split(seen, frames[0].shape[0])

    def _stems(self, windows: Sequence[tuple[Tensor, ...]]) -> list[Stem]:
        """The stem of each window of inputs, run as one batch in which those of one instant are adjacent."""
        if not windows:
            return []
        stem = self.base.stem(_stack([_join(window) for window in windows]))
        return list(zip(*(torch.split(tensor, windows[0][0].shape[0]) for tensor in stem), strict=True))

    def _recur(self, stem: Stem, state: State) -> tuple[tuple[Tensor, ...], State]:
        """Encoder, blending and IRM of one frame; the tensors that the head or the fusing layers read, in order."""
        if not state.base:
            state = self._start(stem, state)
        inner = blended = None
        tensors = self.base.encode(stem, state.base)
        if self._blend is not None:
            tensors["blended"] = blended = self._blend(f_prev=state.blended, f_cur=tensors["features"])
        updated, base_state = self.base.update(tensors, stem, state.base)
        tensors.update(updated)
        if self.irm is not None:
            tensors["inner"] = inner = self.irm(hidden=tensors["hidden"], inner=state.inner)
        reads = tuple(tensors[name] for name in self.reads)
        return reads, State(base_state, inner, blended, state.frames, state.inputs, state.features)

    def _start(self, stem: Stem, state: State) -> State:
        """The state before the first frame: zeros, or what the base network starts with."""
        h, w = stem[0].shape[2:]
        zeros = {
            name: None if c is None else zeros_like(stem[0], c, h, w)
            for name, c in self._added_channels().items()
        }
        base = self.base.initial_state(stem)
        return State(base, **zeros, frames=state.frames, inputs=state.inputs, features=state.features)

    def _condense(self, reads: Sequence[tuple[Tensor, ...]]) -> list[Tensor]:
        """What a window keeps of each of T frames, [N, head_channels, H/stride, W/stride], from T tuples of tensors."""
        if self.fuse is None:
            return [_join(tensors) for tensors in reads]
        fused: Tensor = self.fuse([_stack(same) for same in zip(*reads, strict=True)])
        return list(torch.split(fused, reads[0][0].shape[0]))

    def _decode(self, reads: Sequence[tuple[Tensor, ...]], frames: Sequence[Tensor]) -> Tensor:
        """Images [T * N, 3, H, W] in [0, 1], not yet cropped, from T tuples of tensors, already fused if they are from a window,
        and T input frames."""
        tensors = [_stack(same) for same in zip(*reads, strict=True)]
        fuse = self.fuse if self.base.feature_window.size == 1 else None
        image = self.base.head(_join(tensors) if fuse is None else fuse(tensors))
        image = image.to(frames[0].dtype)  # under autocast, half precision at 1/2 is coarser than 8 bit
        if self.half_resolution:  # which is for residual models only
            return enlarge_onto(image, self._pad(_stack(frames)), RESIDUAL_SCALE * self.strength)
        if self.residual:
            return torch.add(self._pad(_stack(frames)), image, alpha=RESIDUAL_SCALE * self.strength)
        if self.base.adds_input:
            return image + self._pad(_stack(frames))
        return image + self.base.input_shift

    @property
    def _scale(self) -> int:
        """Size of the frames over size of those that the base network sees."""
        return 2 if self.half_resolution else 1

    def layout_on(self, device: torch.device) -> torch.memory_format | None:
        """Return the best memory format for weights and frames on a device, None if either will do; a step converts its frame
        to it."""
        if device.type != "cuda":
            return None
        return torch.channels_last if self.base.channels_last else torch.contiguous_format

    def _pad(self, frames: Tensor) -> Tensor:
        """[M, C, H, W] with H and W padded to what the base network needs by replicating the last row and column."""
        multiple = self.base.multiple * self._scale
        bottom, right = -frames.shape[-2] % multiple, -frames.shape[-1] % multiple
        return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames

    def _as_input(self, frames: Tensor) -> Tensor:
        """[M, C, H, W] -> what the base network sees of it."""
        if not self.half_resolution:
            return frames - self.base.input_shift
        small = halve(frames, self.base.input_shift)
        return small.contiguous(memory_format=torch.channels_last) if is_channels_last(frames) else small

    @property
    def _blend(self) -> ATB | DTB | None:
        return self.dtb if self.atb is None else self.atb

    def _added_channels(self) -> dict[str, int | None]:
        """Channels of h~ and f~, None where there is no such tensor."""
        return {
            "inner": None if self.irm is None else self.irm.channels,
            "blended": None if self._blend is None else self._blend.channels,
        }

    def _in_working_dtype(self, state: State) -> State:
        """The state in the dtype of the weights, since an earlier step may have run in another one; under autocast, only
        tensors that it leaves alone are converted."""
        dtype = self.base.output_layer.weight.dtype

        def convert(t: Tensor) -> Tensor:
            ready = t.dtype == dtype or (t.dtype in CASTABLE and is_autocast(t.device.type))
            return t if ready else t.to(dtype)

        return state.map(convert)

    def _check_state(self, state: State, frames: Sequence[Tensor]) -> None:
        """Refuse a state that this model did not make, or that it made for frames of another batch or size."""
        tensors = state.tensors()
        if not tensors:  # the start of a video
            return
        layout = self._layout(state)
        channels = {name: tensor.shape[1] for name, tensor in tensors.items()}
        if channels != {name: c for name, (c, _) in layout.items()}:
            raise ValueError(
                "this state was made by another kind of model; "
                "give a state of this model, or None to start afresh"
            )
        if not frames:
            return
        n, _, h, w = frames[0].shape
        multiple = self.base.multiple * self._scale
        for name, (c, stride) in layout.items():
            shape = [n, c, *((side + -side % multiple) // stride if stride else side for side in (h, w))]
            if list(tensors[name].shape) != shape:
                raise ValueError(
                    f"state {name} {list(tensors[name].shape)} does not fit frames [{n}, 3, {h}, {w}], which "
                    f"need {shape}; pass None when the video or its frame size changes"
                )

    def _layout(self, state: State) -> dict[str, tuple[int, int | None]]:
        """Channels, and frame size over size, of the tensors that a state of this model has.

        None instead of a ratio means the size of the frames before padding.
        While a delay fills, a state has fewer tensors.
        """
        base, stride = self.base, self.stride
        layout: dict[str, tuple[int, int | None]] = {}
        if state.base:
            strides = [
                self._scale * s for s in base.state_strides or [base.stride] * len(base.state_channels)
            ]
            layout = {
                f"base.{i}": pair for i, pair in enumerate(zip(base.state_channels, strides, strict=True))
            }
            layout |= {name: (c, stride) for name, c in self._added_channels().items() if c is not None}
        for group, window, c, ratio in (
            ("frames", self._frame_window, 3, None),
            ("inputs", base.stem_window, 3, self._scale),
            ("features", base.feature_window, base.head_channels, stride),
        ):
            kept = min(max(1, len(getattr(state, group))), window.size - 1)
            layout |= {f"{group}.{i}": (c, ratio) for i in range(kept)}
        return layout


def _check_float(name: str, images: Tensor) -> None:
    if not images.is_floating_point():
        raise ValueError(
            f"{name} must be floating-point RGB in [0, 1]; got {images.dtype}: use {name} / 255 for 8 bits"
        )


def _stack(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors [N, ...] one after another in the batch; one alone is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors [N, c_i, H, W] one after another in the channels; one alone is not copied."""
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors), 1)
