"""Check results, then measure times in alternation, then memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rirn.bench.cases import DTYPES, Case
from rirn.bench.options import GROUPS
from rirn.bench.subjects import Subject, make, on_library, tensors
from rirn.measure import memory
from rirn.measure.timing import Clock, Job, Spread, alternate
from rirn.ops import use_backend, use_precision, why_not

FUSED = ("cpu", "cuda", "triton")

REFERENCE, COMPILED, WIDE = "reference", "compiled reference", "fp32 reference"
EAGER = (REFERENCE, WIDE)

# Errors against float64 up to which results count as correct. Values: the largest error over the largest value. Gradients: RMS
# error over RMS value, for each tensor. Activations that are not kept off the ReLU's kink change sides with any rounding.
VALUE_LIMITS = {"fp32": 5e-5, "fp16": 2e-2, "bf16": 1e-1, "fast": 5e-2}
GRADIENT_LIMITS = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "fast": 1e-4}
KINKED = ("trunk", "ATB")
KINKED_GRADIENT_LIMITS = {"fp32": 2e-2, "fp16": 1e-1, "bf16": 3e-1, "fast": 2e-2}

VALUE_BAR = 5e-6
"""Value error that an fp32 path should not exceed; above it, results may be correct but less precise than they could be."""


class Competitor(NamedTuple):
    """A participant, and the form in which it runs."""

    name: str
    backend: str
    layout: str = "NCHW"
    compiled: bool = False
    wide: bool = False  # float32, whatever the case's dtype

    def __str__(self) -> str:
        return self.name if self.layout == "NCHW" else f"{self.name} {self.layout}"


class Options(NamedTuple):
    """Measurement options from the command line."""

    device: torch.device
    clock: Clock
    passes: Sequence[str]
    rounds: int
    seconds: float
    compiled: bool
    backends: Sequence[str] = ()


class Errors(NamedTuple):
    """How far results are from float64; infinite if anything in them is not finite."""

    value: float
    gradient: float = 0.0


def competitors(case: Case, options: Options) -> list[Competitor]:
    """Return the competitors, the eager reference first; fused backends only where they can run.

    Convolutions are tried in both layouts. The eager reference is naive PyTorch in NCHW; on a GPU it runs in both layouts, and
    entirely in the dtype of the case. Ops run on every backend that can; modules and networks, which call several ops, on
    ``auto``, unless ``options`` names others.
    """
    layouts = ("NCHW",) if case.is_pointwise else ("NCHW", "channels_last")
    eager = layouts if options.device.type == "cuda" else layouts[:1]
    found = [Competitor(REFERENCE, "reference", layout) for layout in eager]
    if DTYPES[case.dtype] != torch.float32 and case.group != "ratios":
        found.append(Competitor(WIDE, "reference", wide=True))
    if options.compiled and case.group != "ratios":
        found += [Competitor(COMPILED, "reference", layout, compiled=True) for layout in layouts]
    if case.group == "ops":
        backends = [b for b in options.backends or FUSED if why_not(b, case.name, options.device) is None]
    else:
        backends = list(options.backends or ["auto"])
    return found + [Competitor(backend, backend, layout) for backend in backends for layout in layouts]


class Entrant:
    """A competitor with its own copy of a case."""

    def __init__(self, competitor: Competitor, subject: Subject, case: Case, device: torch.device):
        self.competitor = competitor
        dtype = torch.float32 if competitor.wide else DTYPES[case.dtype]
        self.precision = "fast" if case.dtype == "fast" else "exact"
        if competitor.backend == "reference" and device.type == "cuda":
            subject = on_library(subject)
        self.subject = subject.to(device, dtype, competitor.layout)
        module = self.subject.module
        self.function: Callable[..., Any] = (
            torch.compile(module, dynamic=False) if competitor.compiled else module
        )
        self.gradients: list[Tensor] = []

    def forward(self) -> list[Tensor]:
        """Return all outputs, with history if gradients are enabled."""
        with use_backend(self.competitor.backend), use_precision(self.precision):
            return tensors(self.function(*self.subject.inputs))

    def infer(self) -> list[Tensor]:
        """Return all outputs, without history."""
        with torch.no_grad():
            return self.forward()

    def backward(self, out: list[Tensor]) -> list[Tensor]:
        """Return all gradients, for fixed gradients of the outputs."""
        if not self.gradients:
            generator = torch.Generator().manual_seed(1)
            self.gradients = [torch.randn(t.shape, generator=generator).to(t) for t in out]
        with use_backend(self.competitor.backend):
            return list(
                torch.autograd.grad(out, self.subject.wanted(), self.gradients, materialize_grads=True)
            )

    def job(self, passes: str) -> Job:
        """Return the pass to time."""
        if passes == "forward":
            return Job(lambda _: self.infer())
        if passes == "backward":
            return Job(self.backward, self.forward)
        return Job(lambda _: self.backward(self.forward()))


class Truth:
    """The ground truth: the reference in float64, on the device itself."""

    def __init__(self, case: Case, subject: Subject, device: torch.device, with_gradients: bool):
        double = Entrant(Competitor(REFERENCE, "reference"), subject, case, device)
        double.subject = subject.to(device, torch.float64)
        double.function = double.subject.module
        self.outputs = double.infer()
        self.gradients = double.backward(double.forward()) if with_gradients else []

    def check(self, entrant: Entrant, with_gradients: bool) -> Errors:
        """Return the errors of an entrant, run with or without history."""
        if not with_gradients:
            return Errors(value_error(entrant.infer(), self.outputs))
        out = entrant.forward()
        return Errors(value_error(out, self.outputs), gradient_error(entrant.backward(out), self.gradients))


def value_error(got: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """The largest error over the largest value, or over the largest distance from the mean if that is less, of the worst tensor.

    An image is 0.5 plus small deviations: relative to its largest value, any error would look small.
    """
    found = [0.0]
    for a, b in zip(got, truth, strict=True):
        scale = torch.minimum(b.abs().max(), (b - b.mean()).abs().max()) if b.numel() > 1 else b.abs().max()
        found.append(_finite((a.double() - b).abs().max() / scale.clamp_min(1e-30)))
    return max(found)


def gradient_error(got: Sequence[Tensor], truth: Sequence[Tensor]) -> float:
    """RMS error over RMS value, of the worst tensor."""
    found = [0.0]
    for a, b in zip(got, truth, strict=True):
        error, scale = (a.double() - b).square().mean(), b.square().mean()
        found.append(_finite((error / scale.clamp_min(1e-60)).sqrt()))
    return max(found)


def _finite(x: Tensor) -> float:
    value = x.item()
    return value if math.isfinite(value) else math.inf


def matches(case: Case, errors: Errors) -> bool:
    """Whether results are correct, so that they may be timed."""
    kinked = case.channels is None or case.name in KINKED
    limits = KINKED_GRADIENT_LIMITS if kinked else GRADIENT_LIMITS
    return errors.value <= VALUE_LIMITS[case.dtype] and errors.gradient <= limits[case.dtype]


class Result(NamedTuple):
    """One competitor in one pass of one case; without a time if its results are wrong."""

    case: Case
    passes: str
    competitor: Competitor
    errors: Errors
    time: Spread | None = None
    replayed: bool = False
    peak: int | None = None
    saved: int | None = None


def measure(cases: Sequence[Case], options: Options) -> list[Result]:
    """Check all competitors on some cases and time them in alternation."""
    torch.compiler.reset()  # or the limit on compiled versions of one function counts those of other cases
    passes = [p for p in GROUPS[cases[0].group] if p in options.passes]
    needed = {p != "forward" for p in passes}  # gradients, by pass
    entrants: list[tuple[Case, Entrant, dict[bool, Errors]]] = []
    for case in cases:
        subject = make(case)
        truth = Truth(case, subject, options.device, with_gradients=True in needed)
        for competitor in competitors(case, options):
            entrant = Entrant(competitor, subject, case, options.device)
            errors = {with_grad: truth.check(entrant, with_grad) for with_grad in needed}
            entrants.append((case, entrant, errors))
        del truth  # float64, so the largest of all
    results = []
    for p in passes:
        ready = {
            i: options.clock.ready(entrant.job(p))
            for i, (case, entrant, errors) in enumerate(entrants)
            if matches(case, errors[p != "forward"])
        }
        times = alternate(
            {i: job for i, (job, _) in ready.items()}, options.clock, options.rounds, options.seconds
        )
        for i, (case, entrant, errors) in enumerate(entrants):
            result = Result(case, p, entrant.competitor, errors[p != "forward"])
            if i in times:
                result = result._replace(time=times[i], replayed=ready[i][1], **_memory(entrant, p, options))
            results.append(result)
    return results


def _memory(entrant: Entrant, passes: str, options: Options) -> dict[str, int | None]:
    if passes == "backward":  # its forward pass uses most of the memory
        return {"peak": None, "saved": None}
    job = entrant.job(passes)
    parameters = entrant.subject.module.parameters()
    return {
        "peak": memory.peak_bytes(lambda: job.run(None), options.device),
        "saved": None if passes == "forward" else memory.saved_bytes(entrant.forward, parameters),
    }
