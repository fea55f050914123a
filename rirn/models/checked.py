"""Check that a registered base network does what it declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rirn.errors import RirnError
from rirn.models.base import BaseNetwork
from rirn.nn.convolutions import Convolution


@torch.no_grad()
def check_base(base: BaseNetwork) -> None:
    """Pass one frame through a base network and compare what each method returns with what the network declares.

    Errors in its own code keep their traceback.

    Raises:
        RirnError: something is missing, or has another type or shape; the message names the method.
    """
    _check_attributes(base)
    modes = [(module, module.training) for module in base.modules()]
    base.eval()
    try:
        with torch.random.fork_rng(devices=[]):
            _check_pass(base)
    finally:
        for module, training in modes:
            module.training = training


def _check_attributes(base: BaseNetwork) -> None:
    channels = getattr(base, "channels", None)
    needed = {"features", "hidden", *base.head_reads}
    fits = isinstance(channels, Mapping) and needed <= channels.keys()
    _need(fits, base, f"channels must be a dictionary with {_names(needed)}", channels)
    count = getattr(base, "state_channels", None)
    _need(
        isinstance(count, tuple),
        base,
        "state_channels must be a tuple, one number for each tensor of the state",
        count,
    )
    strides = base.state_strides
    fits = strides is None or (isinstance(strides, tuple) and len(strides) == len(base.state_channels))
    _need(
        fits,
        base,
        f"state_strides must be a tuple of {len(base.state_channels)}, as state_channels is",
        strides,
    )
    fits = all(base.multiple % stride == 0 for stride in (base.stride, *(strides or ())))
    _need(
        fits,
        base,
        f"multiple must be divisible by stride {base.stride} and state_strides {strides}",
        base.multiple,
    )
    layers = base.input_layers
    fits = isinstance(layers, list | tuple) and all(isinstance(layer, Convolution) for layer in layers)
    _need(fits, base, "input_layers must be a list of convolutions", layers)
    _need(
        isinstance(base.output_layer, Convolution),
        base,
        "output_layer must be a convolution",
        base.output_layer,
    )


def _check_pass(base: BaseNetwork) -> None:
    batch, side = 2, 8 * base.multiple
    size = [side // base.stride] * 2
    frames = base.output_layer.weight.new_zeros(batch, 3 * base.stem_window.size, side, side)
    stem = base.stem(frames)
    fits = (
        _are_tensors(stem)
        and list(stem[0].shape[2:]) == size
        and all(len(tensor) == batch for tensor in stem)
    )
    _need(
        fits,
        base,
        f"stem must return a tuple of tensors, the first [{batch}, c, {size[0]}, {size[1]}]",
        stem,
        frames,
    )
    state = base.initial_state(stem)
    shapes = [list(tensor.shape) for tensor in state]

    def check_state(method: str, found: Any) -> None:
        fits = _are_tensors(found) and [list(tensor.shape) for tensor in found] == shapes
        _need(fits, base, f"{method} must return the state as a tuple of tensors {shapes}", found, frames)

    def check_tensors(method: str, found: Any, needed: str) -> None:
        _need(
            isinstance(found, Mapping) and needed in found,
            base,
            f"{method} must return a dictionary with {needed!r}",
            found,
        )
        for name in base.channels.keys() & found.keys():
            shape = [batch, base.channels[name], *size]
            fits = isinstance(found[name], Tensor) and list(found[name].shape) == shape
            _need(fits, base, f"{method} must return {name!r} as {shape}", found[name], frames)

    try:
        tensors = base.encode(stem, state)
    except Exception as error:
        if hasattr(error, "add_note"):  # from Python 3.11 on
            error.add_note(
                f"{type(base).__name__}.encode was given a state of {shapes}: "
                "state_channels, state_strides and initial_state say so"
            )
        raise
    check_tensors("encode", tensors, "features")
    updated = base.update(tensors, stem, state)
    fits = isinstance(updated, tuple) and len(updated) == 2
    _need(fits, base, "update must return two things, a dictionary of tensors and the state", updated)
    check_tensors("update", updated[0], "hidden")
    check_state("update", updated[1])
    read = {*base.head_reads, *base.fuse_reads} & base.channels.keys()
    absent = read - tensors.keys() - updated[0].keys()
    _need(not absent, base, f"encode or update must return {_names(absent)}", [*tensors, *updated[0]])
    image = base.head(frames.new_zeros(batch, base.head_channels * base.feature_window.size, *size))
    fits = isinstance(image, Tensor) and list(image.shape) == [batch, 3, side, side]
    _need(fits, base, f"head must return an image [{batch}, 3, {side}, {side}]", image, frames)
    if base.feeds_back:
        check_state("feedback", base.feedback(updated[1], image))


def _are_tensors(found: Any) -> bool:
    return isinstance(found, tuple) and bool(found) and all(isinstance(part, Tensor) for part in found)


def _need(fits: bool, base: BaseNetwork, what: str, got: Any, frames: Tensor | None = None) -> None:
    if not fits:
        where = "" if frames is None else f" for frames {list(frames.shape)}"
        raise RirnError(f"{type(base).__name__}: {what}{where}; got {_told(got)}")


def _told(got: Any) -> str:
    """A short description of a value: shapes instead of numbers."""
    if isinstance(got, Tensor):
        return str(list(got.shape))
    if isinstance(got, tuple | list) and any(isinstance(part, Tensor) for part in got):
        return f"a {type(got).__name__} of " + ", ".join(map(_told, got))
    if isinstance(got, Mapping) and any(isinstance(part, Tensor) for part in got.values()):
        return f"a dictionary with {_names(got)}"
    return " ".join(f"{got!r:.100}".split())


def _names(names: Any) -> str:
    return " and ".join(map(repr, sorted(names)))
