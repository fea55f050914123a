"""The recurrence over the frames of a video, and the transfer of each frame to the device and back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rirn.errors import RirnError
from rirn.ops.precision import has_fast
from rirn.video.frames import Frame
from rirn.video.memory import is_out_of_memory
from rirn.video.options import checked_dtype, checked_strength
from rirn.video.scenes import CutDetector

_DTYPES = {"fp32": torch.float32, "fast": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(eq=False)
class Restored:
    """A result on its way to the CPU: ``image`` (uint8 or uint16 [H, W, 3]) and ``finite`` (bool) are valid at
    ``ready``."""

    frame: Frame
    image: torch.Tensor
    finite: torch.Tensor
    ready: Any  # torch.cuda.Event, or None on the CPU

    def wait(self, index: int) -> np.ndarray:
        """Return the image as an array, once it has arrived.

        Raises:
            RirnError: it contains values that are not finite.
        """
        if self.ready is not None:
            self.ready.synchronize()
        if not self.finite.item():
            raise RirnError(
                f"The network returned values that are not finite for frame {index}; "
                "check the weights, or use fp32 if it ran in less"
            )
        return self.image.numpy()


class Restorer:
    """Feeds frames to a model and returns their restored pictures in order.

    Args:
        model: ``model.step(frame, state)`` with frames [1, 3, H, W]; ``delay`` and ``flush`` if it looks ahead.
        device: where the model is.
        dtype: dtype of its frames.
        cuts: detects the scene cuts at which the state is reset; None never resets it.

    Raises:
        RirnError: the model leaves out frames.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        dtype: torch.dtype,
        cuts: CutDetector | None = None,
    ):
        if getattr(model, "dropped", 0):
            raise RirnError(
                "These weights give no image for the first and last frames of a video (ends='drop'), and every frame must "
                "come back; make or convert them with ends='replicate'"
            )
        self.device = device
        self._model, self._dtype, self._cuts = model, dtype, cuts
        self._state: Any = None
        self._read = 0
        # Frames whose result has not come yet: one, and `model.delay` more.
        self._waiting: deque[Frame] = deque()

    def feed(self, frame: Frame, rgb: torch.Tensor) -> list[Restored]:
        """Yield the results that ``frame`` completes; its ``rgb`` is given as a tensor, pinned for a GPU."""
        ended = []
        if self._cuts is not None and self._cuts(frame.rgb):
            ended = self.end()
        self._waiting.append(frame)
        self._read += 1
        sharp, self._state = self._guarded(self._step, rgb)
        return ended if sharp is None else [*ended, self._result(sharp)]

    def end(self) -> list[Restored]:
        """Yield the results that the model still holds back; what follows is a new scene."""
        held = []
        if getattr(self._model, "delay", 0) and self._waiting:
            held = [self._result(sharp) for sharp in self._guarded(self._model.flush, self._state)]
        if self._waiting:
            raise RuntimeError(f"the model kept {len(self._waiting)} frames back at the end of the clip")
        self._state = None
        return held

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to continue after the results so far: tensors and plain numbers."""
        return {
            "read": self._read,
            "waiting": len(self._waiting),
            "state": self._state,
            "cuts": self._cuts.state_dict() if self._cuts is not None else None,
        }

    def load_state_dict(self, content: dict[str, Any], waiting: list[Frame]) -> None:
        """Continue from a ``state_dict``; ``waiting`` are the last of the frames that were read."""
        self._read, self._state = content["read"], content["state"]
        self._waiting.extend(waiting)
        if self._cuts is not None:
            self._cuts.load_state_dict(content["cuts"])

    def _step(self, rgb: torch.Tensor) -> tuple[torch.Tensor | None, Any]:
        image = rgb.to(self.device, non_blocking=True).permute(2, 0, 1)[None]
        # Divided in fp32: in bf16 the quotient would be rounded twice.
        levels = 255 if rgb.dtype == torch.uint8 else 65535
        image = image.float().div_(levels).to(self._dtype)
        # On a GPU a model uses the memory format that suits it, without a copy if pixels already come in that one.
        image = image if image.device.type == "cuda" else image.contiguous()
        return self._model.step(image, self._state)

    def _guarded(self, call: Callable, *args: Any) -> Any:
        # Inference mode belongs to a thread and must not leak out of a generator between frames.
        with torch.inference_mode():
            try:
                return call(*args)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                height, width = self._waiting[-1].rgb.shape[:2]
                raise RirnError(
                    f"A frame of {width}x{height} does not fit in the memory of {self.device}; "
                    "use tiles, a smaller model, on a GPU bf16, or a smaller video"
                ) from error

    def _result(self, sharp: torch.Tensor) -> Restored:
        if not self._waiting:
            raise RuntimeError("the model returned more frames than it was given")
        frame = self._waiting.popleft()
        expected = (1, 3, *frame.rgb.shape[:2])
        if tuple(sharp.shape) != expected:
            raise RuntimeError(
                f"the model returned a frame of shape {list(sharp.shape)}, not {list(expected)}"
            )
        with torch.inference_mode():
            finite = sharp.isfinite().all()
            image = sharp[0].float().clamp(0, 1)
            if frame.rgb.dtype == np.uint8:
                image = image.mul_(255).round_().to(torch.uint8)
            else:
                image = image.mul_(65535).round_().to(torch.int32).to(torch.uint16)
            image = image.permute(1, 2, 0).contiguous()
            ready = None
            if image.is_cuda:
                image, finite = _to_pinned(image), _to_pinned(finite)
                ready = torch.cuda.Event()
                ready.record(torch.cuda.current_stream(self.device))
        return Restored(frame, image, finite, ready)


def to_tensor(frame: Frame, device: torch.device) -> torch.Tensor:
    """Return the picture of a frame, ready to be copied to ``device``: [H, W, 3]."""
    tensor = torch.from_numpy(frame.rgb)
    # Only pinned memory can be copied to a GPU while it computes.
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _to_pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Start copying to the CPU without waiting."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def set_strength(model: Any, strength: float) -> None:
    """Scale what a residual model adds to its input: 0 (nothing), 1 (as trained), up to 1.5.

    Raises:
        RirnError: the number is out of range, or it is not 1 and the model is not residual.
    """
    checked_strength(strength)
    if getattr(model, "residual", False):
        model.strength = float(strength)
    elif strength != 1:
        raise RirnError(
            "These weights do not predict a difference to the input (residual=False), so that there is nothing to scale; "
            "leave the strength at 1"
        )


def resolved_dtype(name: str, device: torch.device) -> str:
    """Resolve a number format for a device: "fp32", "fast", "bf16" or "fp16".

    "fast" is float32 with products in bfloat16, see ``rirn.ops.use_precision``; "auto" chooses it on a CPU that has such
    products, else "fp32". "bf16" and "fp16" are for GPUs: half precision is slower on a CPU, so there they
    mean "auto". On a GPU "auto" and "fast" mean "fp32".

    Raises:
        RirnError: there is no such format.
    """
    checked_dtype(name)
    if device.type == "cpu":
        return "fast" if name != "fp32" and has_fast() else "fp32"
    return "fp32" if name in ("auto", "fast") else name


def pick_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the dtype of weights and frames, and the precision of products, for a format that ``resolved_dtype`` takes.

    Raises:
        RirnError: there is no such format.
    """
    found = resolved_dtype(name, device)
    return _DTYPES[found], "fast" if found == "fast" else "exact"
