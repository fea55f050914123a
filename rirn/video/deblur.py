"""Restore a video: decoding, network and encoding overlap, in memory that does not grow with the length."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from tqdm import tqdm

from rirn.errors import RirnError
from rirn.video.channel import Cancelled, Channel
from rirn.video.compare import SideBySide
from rirn.video.frames import BrokenStream, Frame
from rirn.video.reader import Reader
from rirn.video.writer import ImageFolderWriter, VideoWriter, check_target, open_writer

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Frames that wait on either side of the network: enough to even out a slow keyframe, few enough for 8K.
QUEUED = 4


@dataclass(frozen=True)
class Summary:
    """What `deblur` did: frames written, wall-clock seconds until the file was closed, where, what size."""

    frames: int
    seconds: float
    target: Path
    width: int
    height: int

    @property
    def fps(self) -> float:
        """Frames per second, decoding and encoding included."""
        return self.frames / self.seconds


def deblur(
    model: torch.nn.Module,
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "fp32",
    compare: bool = False,
    progress: bool = True,
    crf: int = 18,
    preset: str = "medium",
    rate: Fraction | int = 25,
) -> Summary:
    """Run every frame of `source` through a recurrent `model` and write the result to `target`.

    The recurrent state goes from the first frame to the last without a break. Frames out equal frames in,
    with the same time stamps; sound comes along as it is. `target` appears when it is complete. If the input
    breaks off, or on Ctrl-C, what was restored until then is closed properly and kept as `target`; after any
    other failure nothing is left.

    Args:
        model: `model.step(frame, state) -> (sharp, state)` with frame and sharp [1, 3, H, W], RGB in 0..1,
            and `state` None at the start. If `model.delay` (default 0) is above 0, `sharp` is None for that
            many first frames and `model.flush(state)` returns the list of the frames still to come. It is
            moved to `device` and `dtype` in place and set to evaluation.
        source: a video file or a folder of images; never changed.
        target: a video file (.mp4, .m4v, .mov, .mkv; replaced if it exists) or a folder of PNG images (empty
            if it exists).
        device: where the network runs.
        dtype: "fp32", "bf16" or "fp16", for weights and frames.
        compare: write input and result side by side instead of the result alone.
        progress: show a progress bar on stderr if that is a terminal.
        crf: see `VideoWriter`.
        preset: see `VideoWriter`.
        rate: frames per second of a folder of images.

    Returns:
        Summary: what was done.

    Raises:
        RirnError: the input cannot be read, the output not written, the network does not fit in memory or
            returns non-finite values.
        BrokenStream: the input is cut short or damaged; the frames before are in `target`.
        KeyboardInterrupt: after closing `target`; a second one while closing removes it.

    Example:
        >>> summary = deblur(model, "clip.mp4", "sharp.mp4", progress=False)
        >>> summary.frames, summary.width, summary.height
        (2, 64, 48)
    """
    device, torch_dtype = _device(device), _dtype(dtype)
    check_target(source, target)
    with Reader(source, rate=rate) as reader:
        begin = time.perf_counter()
        model = model.to(device=device, dtype=torch_dtype).eval()
        joined = SideBySide(reader.info) if compare else None
        info = joined.info if joined else reader.info
        bar = tqdm(
            total=reader.info.frames,
            unit="frame",
            file=sys.stderr,
            disable=None if progress else True,
            dynamic_ncols=True,
        )
        with bar:
            writer = open_writer(target, info, copy=reader.copyable, crf=crf, preset=preset)
            _run(_Restorer(model, device, torch_dtype, bar), reader, writer, joined)
        seconds = time.perf_counter() - begin
    return Summary(writer.frames, seconds, Path(target), info.width, info.height)


def _run(
    restorer: _Restorer, reader: Reader, writer: VideoWriter | ImageFolderWriter, joined: SideBySide | None
) -> None:
    """Decode, restore and encode in three threads; the caller's, where Ctrl-C arrives, runs the network."""
    decoded, restored = Channel(QUEUED), Channel(QUEUED)
    threads = [
        threading.Thread(
            target=_decode, args=(reader, restorer.device, decoded), name="rirn-decode", daemon=True
        ),
        threading.Thread(target=_encode, args=(writer, joined, restored), name="rirn-encode", daemon=True),
    ]
    stopped: BaseException | None = None
    try:
        for thread in threads:
            thread.start()
        try:
            for item in restorer.run(decoded):
                restored.put(item, weight=isinstance(item, _Restored))
        except (BrokenStream, KeyboardInterrupt) as reason:
            stopped = reason
        decoded.cancel()
        restored.close()
        for thread in threads:
            thread.join()
        restored.check()
        writer.finish()
    except BaseException:
        decoded.cancel()
        restored.cancel()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        writer.abort()
        raise
    if stopped is not None:
        raise stopped


def _decode(reader: Reader, device: torch.device, decoded: Channel) -> None:
    try:
        for item in reader.demux():
            if isinstance(item, Frame):
                tensor = torch.from_numpy(item.rgb)
                # Only pinned memory is copied to a GPU while it computes.
                decoded.put((item, tensor.pin_memory() if device.type == "cuda" else tensor))
            else:
                decoded.put(item, weight=0)
    except Cancelled:
        return
    except BaseException as error:
        decoded.close(error)
    else:
        decoded.close()


def _encode(writer: VideoWriter | ImageFolderWriter, joined: SideBySide | None, restored: Channel) -> None:
    try:
        for item in restored:
            if isinstance(item, av.Packet):
                writer.copy(item)
                continue
            image = item.wait(writer.frames)
            if joined:
                image = joined.join(item.frame.rgb, image)
            writer.write(replace(item.frame, rgb=image))
    except BaseException as error:
        restored.cancel(error)


@dataclass(eq=False)
class _Restored:
    """A result on its way to the CPU: `image` (uint8 [H, W, 3]) and `finite` (bool) are valid at `ready`."""

    frame: Frame
    image: torch.Tensor
    finite: torch.Tensor
    ready: Any  # torch.cuda.Event, or None on the CPU

    def wait(self, index: int) -> np.ndarray:
        if self.ready is not None:
            self.ready.synchronize()
        if not self.finite.item():
            raise RirnError(
                f"The network returned values that are not finite for frame {index}; "
                "check the weights, or use fp32 if it ran in less."
            )
        return self.image.numpy()


class _Restorer:
    """The recurrence over the frames, and the way of each frame to the device and back."""

    def __init__(self, model: torch.nn.Module, device: torch.device, dtype: torch.dtype, bar: tqdm):
        self.device = device
        self._model, self._dtype, self._bar = model, dtype, bar
        # Frames whose result has not come yet: one, and `model.delay` more.
        self._waiting: deque[Frame] = deque()

    def run(self, decoded: Channel) -> Iterator[_Restored | av.Packet]:
        """Results in the order of the frames, and the packets of other streams between them."""
        delay = getattr(self._model, "delay", 0)
        state, broken = None, None
        items = iter(decoded)
        while True:
            try:
                item = next(items, None)
            except BrokenStream as error:
                item, broken = None, error
            if item is None:
                break
            if isinstance(item, av.Packet):
                yield item
                continue
            frame, rgb = item
            self._waiting.append(frame)
            sharp, state = self._guarded(self._step, rgb, state)
            if sharp is not None:
                yield self._result(sharp)
        if delay and self._waiting:
            for sharp in self._guarded(self._model.flush, state):
                yield self._result(sharp)
        if self._waiting:
            raise RuntimeError(f"the model kept {len(self._waiting)} frames back at the end of the clip")
        if broken is not None:
            raise broken

    def _step(self, rgb: torch.Tensor, state: Any) -> tuple[torch.Tensor | None, Any]:
        image = rgb.to(self.device, non_blocking=True).permute(2, 0, 1)[None]
        # Divided in fp32: in bf16 the quotient would be rounded twice.
        return self._model.step(image.float().div_(255).to(self._dtype).contiguous(), state)

    def _guarded(self, call, *args):
        # Inference mode belongs to a thread and must not leak out of this generator between frames.
        with torch.inference_mode():
            try:
                return call(*args)
            except torch.OutOfMemoryError as error:
                rgb = self._waiting[-1].rgb
                raise RirnError(
                    f"A frame of {rgb.shape[1]}x{rgb.shape[0]} does not fit in the memory of {self.device}; "
                    "use bf16, a smaller model or a smaller video."
                ) from error

    def _result(self, sharp: torch.Tensor) -> _Restored:
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
            image = (
                sharp[0].float().clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()
            )
            ready = None
            if image.is_cuda:
                image, finite = _to_pinned(image), _to_pinned(finite)
                ready = torch.cuda.Event()
                ready.record(torch.cuda.current_stream(self.device))
        self._bar.update()
        return _Restored(frame, image, finite, ready)


def _to_pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Start copying to the CPU without waiting."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)


def _device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise RirnError(f"'{name}' is no device; use cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RirnError(
            f"No GPU that PyTorch can use for device '{name}'; use cpu, or install a CUDA build of PyTorch."
        )
    return device


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise RirnError(f"'{name}' is no number format; use {', '.join(DTYPES)}.")
    return DTYPES[name]
