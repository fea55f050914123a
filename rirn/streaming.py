"""Restore frames as they arrive, from a program's own source to its own sink."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from rirn.devices import pick_device
from rirn.models.graphed import ready
from rirn.video.frames import Frame
from rirn.video.restore import Restored, Restorer, pick_dtype, set_strength, to_tensor
from rirn.video.scenes import CutDetector
from rirn.video.tiles import Tiled
from rirn.weights import load


def stream(
    frames: Iterable[np.ndarray | Tensor],
    model: str | os.PathLike | torch.nn.Module = "rirn-small",
    *,
    device: str | torch.device = "cpu",
    dtype: str = "auto",
    strength: float = 1.0,
    tile: int | str | None = "auto",
    scene_reset: bool = True,
) -> Iterator[np.ndarray | Tensor]:
    """Yield every frame restored, in order.

    A frame is taken from ``frames`` only when the next result is requested, so a slow consumer holds the source
    back, and memory does not grow with the length. A model that looks ahead yields ``model.delay`` frames late.
    A frame of another size starts a new video.

    Args:
        frames: uint8 (or uint16) arrays or tensors [H, W, 3], full-range RGB.
        model: weights, by a name that comes with rirn or a path, or a model that ``rirn.video.deblur`` takes; it is
            moved to ``device`` and ``dtype`` in place and set to evaluation mode.
        device: where to run it.
        dtype: "auto", "fp32", "fast", "bf16" or "fp16", see ``rirn.video.restore.resolved_dtype``.
        strength: factor on the difference to the input, 0 to 1.5; values other than 1 for residual networks only.
        tile: see ``rirn.video.Tiled``.
        scene_reset: reset the state at a scene cut.

    Yields:
        Frames of the given shape and type; tensors are on the CPU.

    Raises:
        RirnError: no such weights or device, too little memory, or a result that is not finite.
        ValueError: an item of ``frames`` is not a frame.

    Example:
        >>> import numpy as np, rirn
        >>> camera = (np.full((48, 64, 3), 10 * i, np.uint8) for i in range(3))
        >>> for sharp in rirn.stream(camera, "rirn-small"):
        ...     print(sharp.shape, sharp.dtype)
        (48, 64, 3) uint8
        (48, 64, 3) uint8
        (48, 64, 3) uint8
    """
    device = pick_device(device)
    torch_dtype, precision = pick_dtype(dtype, device)
    network = model if isinstance(model, torch.nn.Module) else load(model)
    set_strength(network, strength)
    tiled = Tiled(ready(network, device, torch_dtype, precision), tile)
    restorer = Restorer(tiled, device, torch_dtype, CutDetector() if scene_reset else None)
    return _stream(frames, restorer)


def _stream(frames: Iterable[np.ndarray | Tensor], restorer: Restorer) -> Iterator[np.ndarray | Tensor]:
    for index, result in enumerate(_restored(frames, restorer)):
        yield _as_given(result, index)


def _restored(frames: Iterable[np.ndarray | Tensor], restorer: Restorer) -> Iterator[Restored]:
    size = None
    for index, item in enumerate(frames):
        frame = _frame(item, index)
        if size not in (None, frame.rgb.shape):
            yield from restorer.end()
        size = frame.rgb.shape
        yield from restorer.feed(frame, to_tensor(frame, restorer.device))
    yield from restorer.end()


class _TensorFrame(Frame):
    """A frame that came as a tensor and leaves as one."""


def _frame(item: np.ndarray | Tensor, index: int) -> Frame:
    rgb = item.cpu().numpy() if isinstance(item, Tensor) else item
    sound = isinstance(rgb, np.ndarray) and rgb.dtype in (np.uint8, np.uint16) and rgb.shape[2:] == (3,)
    if not sound or rgb.size == 0:
        got = f"{rgb.dtype} {list(rgb.shape)}" if isinstance(rgb, np.ndarray) else type(item).__name__
        raise ValueError(f"frame {index} must be uint8 or uint16 [H, W, 3], RGB, not empty; got {got}")
    kind = _TensorFrame if isinstance(item, Tensor) else Frame
    return kind(np.ascontiguousarray(rgb), index, Fraction(1))


def _as_given(result: Restored, index: int) -> np.ndarray | Tensor:
    image = result.wait(index)
    return torch.from_numpy(image) if isinstance(result.frame, _TensorFrame) else image
