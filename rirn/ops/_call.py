"""What the public functions of all ops share: argument checks, the autocast rule, output masks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
CASTABLE = (torch.float32, torch.float16, torch.bfloat16)
HALF_DTYPES = (torch.float16, torch.bfloat16)


def widen(x: Tensor) -> Tensor:
    """Convert half precision to float32, in which references compute; they round once at the end."""
    return x.float() if x.dtype in HALF_DTYPES else x


def check_images(**tensors: Tensor) -> None:
    """Check that the first tensor is a float [N, C, H, W] and the others have its shape, dtype and device."""
    (name, first), *others = tensors.items()
    check_strided(name, first)
    if first.dim() != 4:
        raise ValueError(f"{name} must be [N, C, H, W]; got {list(first.shape)}")
    if first.dtype not in DTYPES:
        raise ValueError(
            f"{name} must be float32, float64, float16 or bfloat16; got {first.dtype}: use {name}.float()"
        )
    for other_name, other in others:
        if other.shape != first.shape:
            raise ValueError(
                f"{other_name} must have the shape of {name} {list(first.shape)}; got {list(other.shape)}"
            )
        check_kind(other_name, other, name, first)


def check_kind(name: str, tensor: Tensor, like_name: str, like: Tensor) -> None:
    """Check that a tensor has the dtype and the device of another one, and no sparse layout."""
    check_strided(name, tensor)
    if tensor.dtype != like.dtype:
        raise ValueError(
            f"{name} must have the dtype of {like_name} ({like.dtype}); got {tensor.dtype}: "
            "convert one of them with .to()"
        )
    if tensor.device != like.device:
        raise ValueError(
            f"{name} must be on the device of {like_name} ({like.device}); got {tensor.device}: "
            "move one of them with .to()"
        )


def check_strided(name: str, tensor: Tensor) -> None:
    """Check that a tensor lies in memory element by element."""
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must not be sparse; got {tensor.layout}: use {name}.to_dense()")


def check_channels(name: str, tensor: Tensor, rule: str, channels: tuple[int, ...], **like: Tensor) -> None:
    """Check that a tensor has the dtype, the device and the N, H, W of another one, which its keyword names,
    and a channel count from ``channels``; ``rule`` says in words which."""
    ((like_name, other),) = like.items()
    check_kind(name, tensor, like_name, other)
    n, _, h, w = other.shape
    if all(tensor.shape != (n, c, h, w) for c in channels):
        raise ValueError(
            f"{name} must be [N, {rule}, H, W] with the N, C, H, W of {like_name} {list(other.shape)}; "
            f"got {list(tensor.shape)}"
        )


def check_blend(f_prev: Tensor, f_cur: Tensor, **logits: Tensor) -> None:
    """Check what the ops that blend two frames have in common: features of one kind and logits that fit them."""
    check_images(f_cur=f_cur, f_prev=f_prev)
    for name, logit in logits.items():
        check_channels(name, logit, "C or 1", (f_cur.shape[1], 1), f_cur=f_cur)


# Autocast is applied here, by hand, and not by registering kernels for the autocast dispatch keys:
# register_autocast fixes one dtype per device type, but fp16 and bf16 must both work; the reference is not a
# dispatcher op, but must follow the same rule; and plain Python is something torch.compile traces and
# guards on.
def autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors in the dtype of the surrounding autocast region, if there is one; float64 stays, as
    everywhere in torch.

    Raises:
        TypeError: one of them is not a tensor. Every op comes through here before it looks at anything.
    """
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"the ops take torch tensors; got {type(tensor).__name__}: use torch.as_tensor")
    device_type = tensors[0].device.type if tensors else "cpu"
    if not is_autocast(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(_in_dtype(t, dtype) if t.dtype in CASTABLE else t for t in tensors)


class _Casts(threading.local):
    """What parameters were cast to, within :func:`keep_casts` in this thread."""

    def __init__(self) -> None:
        self.kept: dict[Hashable, Tensor] | None = None


_casts = _Casts()


@contextmanager
def keep_casts() -> Iterator[None]:
    """Cast each parameter once for all calls inside the block, which must not change any; autocast itself caches the casts of
    torch's layers, too."""
    before = _casts.kept
    _casts.kept = {}
    try:
        yield
    finally:
        _casts.kept = before


def _in_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # What temporarily replaces a parameter, in torch.func or a compiled program, is not a Parameter.
    if torch.compiler.is_compiling() or _casts.kept is None or type(tensor) is not Parameter:
        return tensor.to(dtype)
    key = id(tensor), dtype, torch.is_grad_enabled()
    if key not in _casts.kept:
        _casts.kept[key] = tensor.to(dtype)
    return _casts.kept[key]


def _has_autocast(device_type: str) -> bool:
    return torch.amp.is_autocast_available(device_type)


# A constant for torch.compile, see rirn.ops.backends: before torch 2.12 it cannot trace that call and would break the graph.
_has_autocast._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_autocast(device_type: str) -> bool:
    return _has_autocast(device_type) and torch.is_autocast_enabled(device_type)


def call_reference(function: Callable[..., Tensor], device_type: str, *args: Any) -> Tensor:
    """Call a reference op outside autocast, which would undo its float32 arithmetic."""
    if not is_autocast(device_type):
        return function(*args)
    with torch.autocast(device_type, enabled=False):
        return function(*args)


def output_mask_of(wanted: Sequence[bool]) -> int:
    """Return the integer whose bit i is set where gradient i is wanted."""
    return sum(1 << i for i, want in enumerate(wanted) if want)


def is_wanted(output_mask: int, i: int) -> bool:
    return bool(output_mask >> i & 1)
