"""Decode, restore and encode in three threads with short queues between them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from rirn.video.channel import Cancelled, Channel
from rirn.video.compare import SideBySide
from rirn.video.frames import BrokenStream, Frame, VideoInfo
from rirn.video.reader import Reader
from rirn.video.restore import Restorer, to_tensor

# Frames that wait on either side of the network: enough to absorb a slow keyframe, few enough for 8K.
QUEUED = 4

# At the end of a segment an encoder codes its look-ahead at once, some dozens of frames. If that many restored
# ones fit into these bytes, the network need not stop for it.
QUEUED_BYTES = 128 << 20
MOST_QUEUED = 64

# Frames of a segment, which begins with a key frame; a killed run loses at most one segment of work. x264's
# own longest distance between key frames is 250.
SEGMENT = 120


class Output(Protocol):
    """Where restored frames go."""

    frames: int

    def write(self, frame: Frame) -> None: ...

    def border(self, checkpoint: dict[str, Any]) -> None: ...

    def complete(self) -> None: ...

    def stop(self) -> None: ...

    def fail(self) -> None: ...


@dataclass
class Busy:
    """Seconds that each stage worked, not waited."""

    decode: float = 0.0
    model: float = 0.0
    encode: float = 0.0


def frames_ahead(info: VideoInfo) -> int:
    """How many restored frames may wait for an encoder that works in bursts."""
    frame = info.width * info.height * (3 if info.bits <= 8 else 6)
    return max(QUEUED, min(MOST_QUEUED, QUEUED_BYTES // frame))


class _Border(dict):
    """A checkpoint on its way to the encoder."""


class Pipeline:
    """Moves every frame of a reader through a restorer to an output.

    Args:
        reader: the frames; those of a camera are dropped, oldest first, while the network is behind.
        restorer: the network.
        output: takes the results.
        joined: puts input and result side by side; None outputs only the result.
        ahead: restored frames that may wait for the output.
        on_result: called for each result, in the calling thread.
    """

    def __init__(
        self,
        reader: Reader,
        restorer: Restorer,
        output: Output,
        *,
        joined: SideBySide | None = None,
        ahead: int = QUEUED,
        on_result: Callable[[], Any],
    ):
        self.busy = Busy()
        self.dropped = 0
        self._reader, self._restorer, self._output = reader, restorer, output
        self._joined, self._on_result = joined, on_result
        # A camera keeps filming while the network works: what waits is already old.
        self._decoded = Channel(1 if reader.is_camera else QUEUED)
        self._restored = Channel(1 if reader.is_camera else ahead)

    def run(self, checkpoint: dict[str, Any] | None = None) -> None:
        """Process all frames; the caller's thread, where Ctrl-C arrives, runs the network.

        Args:
            checkpoint: checkpoint of the restorer to continue from, instead of starting at the first frame.

        Raises:
            BrokenStream, KeyboardInterrupt: after the frames so far were made playable.
            Exception: anything else, after ``output.fail()``.
        """
        waiting = checkpoint["waiting"] if checkpoint else 0
        skip = checkpoint["read"] - waiting if checkpoint else 0
        decoded, restored = self._decoded, self._restored
        threads = [
            threading.Thread(target=self._decode, args=(skip,), name="rirn-decode", daemon=True),
            threading.Thread(target=self._encode, name="rirn-encode", daemon=True),
        ]
        stopped: BaseException | None = None
        try:
            for thread in threads:
                thread.start()
            try:
                frames = iter(decoded)
                if checkpoint:
                    self._restorer.load_state_dict(checkpoint, [next(frames)[0] for _ in range(waiting)])
                self._restore(frames)
            except (BrokenStream, KeyboardInterrupt) as reason:
                stopped = reason
            decoded.cancel()
            restored.close()
            for thread in threads:
                thread.join()
            restored.check()
            begin = time.perf_counter()
            if isinstance(stopped, KeyboardInterrupt):
                self._output.stop()
            else:
                self._output.complete()
            self.busy.encode += time.perf_counter() - begin
        except BaseException:
            decoded.cancel()
            restored.cancel()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            self._output.fail()
            raise
        if stopped is not None:
            raise stopped

    def _restore(self, frames: Iterator[tuple[Frame, torch.Tensor]]) -> None:
        since_border = 0
        broken: BrokenStream | None = None
        while True:
            try:
                item = next(frames, None)
            except BrokenStream as error:
                item, broken = None, error
            begin = time.perf_counter()
            results = self._restorer.end() if item is None else self._restorer.feed(*item)
            self.busy.model += time.perf_counter() - begin
            for result in results:
                self._restored.put(result)
                self._on_result()
            since_border += len(results)
            if item is None:
                break
            if since_border >= SEGMENT:
                self._restored.put(_Border(self._restorer.state_dict()), weight=0)
                since_border = 0
        if broken is not None:
            raise broken

    def _decode(self, skip: int) -> None:
        try:
            frames = self._reader.frames(skip)
            while True:
                begin = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                item = (frame, to_tensor(frame, self._restorer.device))
                self.busy.decode += time.perf_counter() - begin
                if self._reader.is_camera:
                    self.dropped += self._decoded.put_newest(item)
                else:
                    self._decoded.put(item)
        except Cancelled:
            return
        except BaseException as error:
            self._decoded.close(error)
        else:
            self._decoded.close()

    def _encode(self) -> None:
        try:
            for item in self._restored:
                if isinstance(item, _Border):
                    begin = time.perf_counter()
                    self._output.border(item)
                else:
                    image = item.wait(self._output.frames)
                    begin = time.perf_counter()
                    frame = replace(item.frame, rgb=image)
                    if self._joined:
                        frame.rgb, frame.alpha = self._joined.join(item.frame.rgb, image), None
                    self._output.write(frame)
                self.busy.encode += time.perf_counter() - begin
        except BaseException as error:
            self._restored.cancel(error)
