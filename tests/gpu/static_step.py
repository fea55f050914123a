"""A streaming step in a CUDA graph, the way docs/cuda-graphs.md shows it."""

from __future__ import annotations

import torch
from torch import Tensor

from rirn import State
from rirn.models import VideoDeblurrer


class StaticStep:
    """Steps of a model on tensors that stay where they are: captured once and replayed on a GPU, called again on the CPU.

    Args:
        model: in evaluation mode.
        frame: [N, 3, H, W], one like those to come.
        state: after ``model.delay + 1`` frames or more, when it has all its tensors.
    """

    def __init__(self, model: VideoDeblurrer, frame: Tensor, state: State):
        self.model = model
        self.frame, self.state = frame.clone(), state.map(torch.clone)
        self.graph = None
        if frame.device.type != "cuda":
            return
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                model.step(self.frame, self.state)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._advance()

    def _advance(self) -> None:
        self.sharp, after = self.model.step(self.frame, self.state)
        # In this order a window moves up one place before the place below it is overwritten.
        for old, new in zip(self.state.tensors().values(), after.tensors().values(), strict=True):
            old.copy_(new)

    def __call__(self, frame: Tensor) -> Tensor:
        """The restored frame; the next call overwrites it on a GPU."""
        self.frame.copy_(frame)
        if self.graph is None:
            self._advance()
        else:
            self.graph.replay()
        return self.sharp
