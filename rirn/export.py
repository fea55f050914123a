"""Models for programs without PyTorch: one step of the recurrence as an ONNX file.

The caller holds the state, as in Python: each of its tensors is an input and an output of the
graph, under its name in :meth:`rirn.State.tensors`.

==============  =============================================  ============================================
file            inputs                                         outputs
==============  =============================================  ============================================
OUT.onnx        ``frame``, ``state.NAME`` ...                  ``sharp``, ``new_state.NAME`` ...
OUT.start.onnx  ``frame.0`` ... (the first frames of a video)  ``sharp``, ``new_state.NAME`` ...
OUT.end.onnx    ``state.NAME`` ... (after the last frame)      ``sharp.0`` ... (the frames still waiting)
==============  =============================================  ============================================

A video starts with a state of zeros and needs only OUT.onnx, except for two kinds of models: STFAN makes its
first state from the first frame, and models that keep a window of frames or of their features (STRCNN, ESTRNN,
MMP-RNN, ``rdbn+gsa``) fill it first. These come with OUT.start.onnx, which takes the first frames at once and returns
the first restored image and the state after it. A model with a delay of d frames returns, for each frame, the
image of d frames before, and the last d images come from OUT.end.onnx. A video must have at least as many frames
as OUT.start.onnx takes.

The metadata of OUT.onnx tell a program what it must know: ``rirn.start`` is ``zeros`` or the name of the file to
start with, ``rirn.end`` the name of the file to end with, or empty, ``rirn.delay`` the delay in frames, and
``rirn.model`` the model's name and options as JSON.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rirn.errors import RirnError, near_match
from rirn.models import State, VideoDeblurrer, create_model, model_names
from rirn.models.base import BaseNetwork
from rirn.ops import use_backend
from rirn.weights import load
from rirn.weights.names import shipped

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

PACKAGES = ("onnx", "onnxscript")
"""What torch's exporter needs, by the names that both pip and Python know."""


def export_onnx(
    model: VideoDeblurrer | str | Path, path: str | Path, *, height: int = 720, width: int = 1280
) -> list[Path]:
    """Write one step of a model's recurrence as an ONNX file that holds its weights.

    The graph is that of the reference backend in the middle of a video, for one video (N = 1) and one frame
    size. Frames are [1, 3, height, width], RGB in [0, 1]; images are not clamped. All tensors have the dtype
    of the weights, float32 unless they were cast.

    Args:
        model: a model; the name or path of weights, as for :func:`rirn.load`; or the name of a model, as for
            :func:`rirn.create_model`, which is then untrained.
        path: file to write, ending in ``.onnx``; existing files are replaced once the new ones are complete.
        height: frame height in pixels.
        width: frame width in pixels.

    Returns:
        The files written: ``path``, and beside it the files to start and to end a video with, for models
        that need them (see the docstring of this module).

    Raises:
        RirnError: onnx or onnxscript is not installed, the size is not positive, the file cannot be written,
            or there is no such model.

    Example:
        >>> import numpy, onnxruntime, tempfile, rirn
        >>> from rirn.export import export_onnx
        >>> folder = tempfile.TemporaryDirectory()
        >>> (path,) = export_onnx("rirn-tiny", f"{folder.name}/tiny.onnx", height=24, width=32)
        >>> session = onnxruntime.InferenceSession(path)
        >>> video = numpy.random.rand(5, 1, 3, 24, 32).astype(numpy.float32)  # [T, 1, 3, H, W]
        >>> state = {i.name: numpy.zeros(i.shape, numpy.float32) for i in session.get_inputs()}
        >>> for frame in video:
        ...     outputs = session.run(None, {**state, "frame": frame})
        ...     named = {o.name: value for o, value in zip(session.get_outputs(), outputs)}
        ...     sharp = named.pop("sharp")
        ...     state = {name.removeprefix("new_"): value for name, value in named.items()}
        >>> sharp.shape, sorted(state)
        ((1, 3, 24, 32), ['state.base.0', 'state.inner'])
    """
    path = Path(path)
    _check(path, height, width)
    model = _model(model)
    graphs = list(_graphs(model, height, width))
    names = {graph.part: _name(path, graph.part) for graph in graphs}
    metadata = {
        "rirn.model": json.dumps(model.config),
        "rirn.start": names.get("start", "zeros"),
        "rirn.end": names.get("end", ""),
        "rirn.delay": str(model.delay),
    }
    targets = [path.with_name(name) for name in names.values()]
    _write(path, graphs, targets, metadata)
    return targets


def _write(path: Path, graphs: Sequence[Graph], targets: Sequence[Path], metadata: dict[str, str]) -> None:
    """Write all graphs to their files, or none of them; the files of an earlier export of ``path`` are removed."""
    partials = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    try:
        for graph, partial in zip(graphs, partials, strict=True):
            _translate(graph, metadata).save(partial, external_data=False)
        # `path` is removed first and written last: if it exists, the parts beside it are its own.
        for part in ("", "start", "end"):
            path.with_name(_name(path, part)).unlink(missing_ok=True)
        for i in reversed(range(len(targets))):
            partials[i].replace(targets[i])
    except OSError as error:
        raise RirnError(f"cannot write {path}: {error}") from error
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


def _check(path: Path, height: int, width: int) -> None:
    """Refuse what can be refused before a model is loaded."""
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise RirnError(f"the export to ONNX needs {' and '.join(missing)}; run `pip install 'rirn[onnx]'`")
    if height < 1 or width < 1:
        raise RirnError(f"height and width must be at least 1 pixel; got {height} and {width}")
    if path.suffix != ".onnx":
        raise RirnError(f"the name of an ONNX file ends in .onnx; got {path}")
    if not path.parent.is_dir():
        raise RirnError(
            f"there is no folder {path.parent}; create it or choose another place for {path.name}"
        )
    if path.exists() and not path.is_file():
        raise RirnError(f"{path} exists and is no file; choose another name")


def _model(model: VideoDeblurrer | str | Path) -> VideoDeblurrer:
    """A copy of the model on the CPU, in evaluation mode, or the model with this name."""
    if isinstance(model, VideoDeblurrer):
        return copy.deepcopy(model).cpu().eval().requires_grad_(False)
    name = str(model)
    if name in model_names():
        return create_model(name).eval().requires_grad_(False)
    if name not in shipped() and not Path(name).suffix and os.sep not in name:
        near = near_match(name, [*shipped(), *model_names()])
        raise RirnError(f"there are no weights and no model {name!r}, give a path or a name; {near}")
    return load(model)


@dataclasses.dataclass(frozen=True)
class Graph:
    """One of the files: a function of tensors, examples of its inputs by name, and names of its outputs."""

    part: str  # "", "start" or "end"
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]


class Step(nn.Module):
    """:meth:`VideoDeblurrer.step` within a video, with the state as separate tensors."""

    def __init__(self, model: VideoDeblurrer, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, frame: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        image, after = self.model.step(frame, State.from_tensors(dict(zip(self.names, state, strict=True))))
        return image, *after.tensors().values()


class Start(nn.Module):
    """The first steps of a video up to the first image."""

    def __init__(self, model: VideoDeblurrer):
        super().__init__()
        self.model = model

    def forward(self, *frames: Tensor) -> tuple[Tensor, ...]:
        image = state = None
        for frame in frames:
            image, state = self.model.step(frame, state)
        return image, *state.tensors().values()


class End(nn.Module):
    """:meth:`VideoDeblurrer.flush` with the state as separate tensors."""

    def __init__(self, model: VideoDeblurrer, names: Sequence[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *state: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.flush(State.from_tensors(dict(zip(self.names, state, strict=True)))))


def _graphs(model: VideoDeblurrer, height: int, width: int) -> Iterator[Graph]:
    first, state, waiting = _shapes(model, height, width)
    examples = {f"state.{name}": torch.zeros_like(t, device="cpu") for name, t in state.tensors().items()}
    names = list(state.tensors())
    outputs = ["sharp", *(f"new_state.{name}" for name in names)]
    frames = [torch.zeros_like(frame, device="cpu") for frame in first]
    yield Graph("", Step(model, names), {"frame": frames[0], **examples}, outputs)
    if not _starts_with_zeros(model):
        yield Graph("start", Start(model), {f"frame.{i}": frame for i, frame in enumerate(frames)}, outputs)
    if waiting:
        yield Graph("end", End(model, names), examples, [f"sharp.{i}" for i in range(waiting)])


@torch.no_grad()
def _shapes(model: VideoDeblurrer, height: int, width: int) -> tuple[list[Tensor], State, int]:
    """Frames up to the first image, the state after it, and how many images wait; nothing is computed."""
    model = copy.deepcopy(model).to("meta")
    frame = torch.empty(1, 3, height, width, dtype=next(model.parameters()).dtype, device="meta")
    frames, state, image = [], None, None
    with use_backend("reference"):
        while image is None:
            frames.append(frame)
            image, state = model.step(frame, state)
        return frames, state, len(model.flush(state))


def _starts_with_zeros(model: VideoDeblurrer) -> bool:
    base = model.base
    windows = {base.stem_window.size, base.feature_window.size}
    return windows == {1} and type(base).initial_state is BaseNetwork.initial_state


def _name(path: Path, part: str) -> str:
    return f"{path.stem}.{part}{path.suffix}" if part else path.name


@torch.no_grad()
def _translate(graph: Graph, metadata: dict[str, str]) -> ONNXProgram:
    with use_backend("reference"), _quiet():  # whose ops are made of torch's own, which the exporter knows
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=graph.outputs,
            verbose=False,
        )
    program.model.metadata_props.update(metadata)
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch says about itself while exporting: deprecations, and that torchvision is missing."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
