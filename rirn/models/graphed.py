"""Steps replayed as CUDA graphs: all kernels of a step launched at once, without Python in between."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from rirn.models.deblurrer import VideoDeblurrer
from rirn.ops.backends import backend_in_use
from rirn.ops.packed import keep_packed
from rirn.ops.tuning import precision

log = logging.getLogger("rirn.models")

WARM_UPS = 2
"""Plain steps of a kind before it is captured, during which libraries choose algorithms and Triton compiles."""

MOST_GRAPHS = 8
"""Each holds the memory of a step; the least recently used one is dropped."""


class _Graph(NamedTuple):
    replay: Callable[[], None]
    inputs: list[Tensor]  # frame and state, where the graph reads them
    results: Any  # image and state, where it writes them


class GraphedStep:
    """A model whose ``step`` is replayed as a CUDA graph, one for each size, batch and dtype of frames.

    Small frames leave a GPU waiting for Python, which launches some sixty kernels one by one. What cannot be replayed runs as
    a plain step: the first frames of a video and of a size, tensors that are not on a GPU, steps with gradients, in training or
    under autocast, and everything once a capture has failed. Results and states belong to the caller, like those of plain
    steps, and are bit-identical to them, and either kind of step can continue from them.

    No graph has been captured on a GPU yet: tests replay steps without one, and ``pytest -m gpu`` captures them on one.

    Args:
        model: an object with ``step(frame, state) -> (sharp, state)``, which must not synchronize or draw random numbers;
            the state is made of tensors within tuples, lists, dicts or :class:`rirn.State`. Other attributes are forwarded.
        measure: let cuDNN time its algorithms for a size from the second step on and use the fastest. That may differ between
            processes: results are those of plain steps up to rounding. ``rirn deblur`` and ``rirn.stream`` do so.

    Attributes:
        steps: number of steps so far.
        replays: number of those that a graph made.
        reason: why the latest step was a plain one, in words; None after a replay.

    Example:
        >>> import rirn, torch
        >>> model = rirn.GraphedStep(rirn.load("rirn-tiny"))
        >>> with torch.no_grad():
        ...     sharp, state = model.step(torch.rand(1, 3, 8, 8), None)
        >>> model.reason
        'the frames are on cpu, and CUDA graphs are for GPUs'
    """

    def __init__(self, model: Any, *, measure: bool = False):
        self._model = model
        self._measure = measure
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._seen: Counter[Hashable] = Counter()
        self._failure: str | None = None
        self.steps = self.replays = 0
        self.reason: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor | None, Any]:
        """``model.step(frame, state)``."""
        self.steps += 1
        self.reason = self._why_not(frame)
        if self.reason is not None:
            return self._plain(frame, state)
        leaves, spec = tree_flatten((frame, state))
        if not all(isinstance(leaf, Tensor) for leaf in leaves):
            self.reason = "the state is not made of tensors alone"
            return self._plain(frame, state)
        kind = (self._surroundings(), spec, *((t.shape, t.dtype, t.device) for t in leaves))
        graph = self._graphs.get(kind)
        if graph is None:
            # Only for a size that recurs, since timing takes longer than a step; the graph uses what the plain steps found.
            with _measured(self._measure and self._seen[kind] > 0):
                graph = self._captured(kind, leaves, spec)
                if graph is None:
                    return self._plain(frame, state)
        self._graphs.move_to_end(kind)
        self.replays += 1
        torch._foreach_copy_(graph.inputs, leaves)
        graph.replay()
        # No image comes while a look-ahead fills.
        sharp, after = tree_map(lambda t: None if t is None else t.clone(), graph.results)
        return sharp, after

    def __str__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.replays} of {self.steps} steps as CUDA graphs{why}"

    def _why_not(self, frame: Tensor) -> str | None:
        if not _on_gpu(frame):
            return f"the frames are on {frame.device.type}, and CUDA graphs are for GPUs"
        if torch.is_grad_enabled():
            return "gradients are on: step within torch.no_grad()"
        if getattr(self._model, "training", False):
            return "the model is in training: call model.eval()"
        if torch.is_autocast_enabled(frame.device.type):
            return "autocast is on: convert the model instead"
        return self._failure

    def _surroundings(self) -> Hashable:
        """What a step depends on besides its arguments."""
        weights = next(iter(self._model.parameters()), None) if hasattr(self._model, "parameters") else None
        place = (
            None if weights is None else (weights.dtype, weights.data_ptr())
        )  # another one after `model.to`
        return backend_in_use(), precision(torch.float32), getattr(self._model, "strength", None), place

    def _plain(self, frame: Tensor, state: Any) -> tuple[Tensor | None, Any]:
        """Run a step without a graph; if memory runs out, free the graphs and try again."""
        try:
            found: tuple[Tensor | None, Any] = self._model.step(frame, state)
            return found
        except torch.OutOfMemoryError:
            if not self._graphs:
                raise
        self._graphs.clear()
        self._failure = "memory ran out beside the graphs"
        found = self._model.step(frame, state)
        return found

    def _captured(self, kind: Hashable, leaves: list[Tensor], spec: Any) -> _Graph | None:
        """Return a new graph for this kind of step, or None if there should be none, or none yet."""
        self._seen[kind] += 1
        if self._seen[kind] <= WARM_UPS:
            self.reason = f"warming up: {self._seen[kind]} of {WARM_UPS}"
            return None
        # Not in inference mode: its tensors could not be written to outside of it.
        with torch.inference_mode(False), torch.no_grad():
            inputs = [torch.empty_like(t).copy_(t) for t in leaves]
            try:
                replay, results = _capture(
                    lambda: self._model.step(*tree_unflatten(inputs, spec)), inputs[0].device
                )
            except RuntimeError as error:  # from any library involved
                first_line = str(error).strip().partition("\n")[0]
                self.reason = self._failure = f"a step could not be captured: {first_line}"
                log.warning("Steps run one kernel after the other, for %s.", self._failure)
                return None
        while len(self._graphs) >= MOST_GRAPHS:
            self._graphs.popitem(last=False)
        self._graphs[kind] = _Graph(replay, inputs, results)
        return self._graphs[kind]


def ready(model: Any, device: torch.device, dtype: torch.dtype, precision: str | None = None) -> Any:
    """Prepare a model to run its steps: our networks in that precision, with graphs, and on a GPU in the memory format that
    suits them; other models, which may remember what a graph would not see, without graphs."""
    model = model.to(device=device, dtype=dtype).eval()
    if not isinstance(model, VideoDeblurrer):
        return model
    model.precision = precision
    layout = model.layout_on(device)
    if layout is not None:
        model.to(memory_format=layout)  # type: ignore[call-overload]
    return GraphedStep(model, measure=True)


@contextlib.contextmanager
def _measured(measured: bool) -> Iterator[None]:
    """Let cuDNN time its algorithms, unless results must repeat."""
    cudnn, before = torch.backends.cudnn, torch.backends.cudnn.benchmark
    if measured and not (cudnn.deterministic or torch.are_deterministic_algorithms_enabled()):
        cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.benchmark = before


def _on_gpu(frame: Tensor) -> bool:
    return frame.device.type == "cuda"


def _capture(run: Callable[[], Any], device: torch.device) -> tuple[Callable[[], None], Any]:
    """Capture ``run``; return a function that replays it, and its results, which every replay overwrites.

    A replay first packs all weights, with their current values, in the order of the kernels, in one launch instead of one per
    call.
    """
    with torch.cuda.device(device), keep_packed(device) as packed:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # whatever is set up for a stream
            run()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        # Other threads, which decode and encode, may keep allocating.
        with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
            packed.again()
            results = run()
    return functools.partial(_replay, graph, packed.held), results


def _replay(graph: torch.cuda.CUDAGraph, held: list[Tensor]) -> None:
    """Replay a graph, which reads and writes what is held beside it."""
    graph.replay()
