"""Measure how fast a video is decoded and restored, without encoding."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rirn.models.graphed import ready
from rirn.video.frames import Frame
from rirn.video.options import Options
from rirn.video.pipeline import Pipeline
from rirn.video.reader import Reader
from rirn.video.restore import Restored, Restorer, pick_dtype
from rirn.video.tiles import Tiled


@dataclass(frozen=True)
class Benchmark:
    """Speed of a run: ``latency`` in seconds from a decoded frame to its restored one on the CPU, p50 and p95.

    ``decode`` and ``model`` are the shares of the wall-clock time in which each of the two worked; they overlap.
    The first frame, during which libraries warm up, does not count. ``graphs`` says how many steps a GPU replayed.
    """

    frames: int
    fps: float
    latency_p50: float
    latency_p95: float
    decode: float
    model: float
    graphs: str = ""

    def __str__(self) -> str:
        return (
            f"{self.frames} frames at {self.fps:.2f} frames/s; latency p50 {1e3 * self.latency_p50:.1f} ms, "
            f"p95 {1e3 * self.latency_p95:.1f} ms; busy: decode {self.decode:.0%}, model {self.model:.0%}, "
            f"encode not run{self.graphs and '; '}{self.graphs}"
        )


class _Timed(Restorer):
    """Waits for each result and notes the time."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.ends: list[float] = []
        self.seconds: list[float] = []

    def feed(self, frame: Frame, rgb: torch.Tensor) -> list[Restored]:
        begin = time.perf_counter()
        results = super().feed(frame, rgb)
        for result in results:
            result.wait(len(self.ends))
        self.ends.append(time.perf_counter())
        self.seconds.append(self.ends[-1] - begin)
        return results


class _Nowhere:
    """An output that drops everything."""

    frames = 0

    def write(self, frame: Frame) -> None:
        self.frames += 1

    def border(self, checkpoint: dict[str, Any]) -> None:
        """Nothing to keep."""

    complete = stop = fail = lambda self: None


def benchmark(
    model: torch.nn.Module,
    source: str | os.PathLike,
    options: Options | None = None,
    **fields: Any,
) -> Benchmark:
    """Decode and restore all of ``source`` and write nothing; the arguments are those of ``deblur``.

    Raises:
        RirnError: as for ``deblur``.
    """
    options = replace(options or Options(), **fields)
    device = options.chosen_device
    dtype, precision = pick_dtype(options.dtype, device)
    with Reader(source, rate=options.rate, raw_size=options.raw_size, cut=options.cut) as reader:
        stepped = ready(model, device, dtype, precision)
        tiled, output = Tiled(stepped, options.tile), _Nowhere()
        restorer = _Timed(tiled, device, dtype)
        tiled.prepare((reader.info.height, reader.info.width), device, dtype)
        pipeline = Pipeline(reader, restorer, output, on_result=lambda: None)
        pipeline.run()
    counted = restorer.seconds[1:] or restorer.seconds
    wall = restorer.ends[-1] - restorer.ends[0] if len(restorer.ends) > 1 else restorer.seconds[0]
    p50, p95 = np.percentile(counted, [50, 95])
    return Benchmark(
        output.frames,
        len(counted) / wall,
        float(p50),
        float(p95),
        pipeline.busy.decode * len(counted) / len(restorer.seconds) / wall,
        sum(counted) / wall,
        str(stepped) if device.type == "cuda" and stepped is not model else "",
    )
