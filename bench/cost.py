"""The cost of a step on a GPU, counted and never timed: ``python -m rirn.bench --model-cost``.

The eager reference is counted call by call (:mod:`rirn.bench.launches`), the kernels of rirn by formula
(:mod:`rirn.bench.kernel_costs`), both while tensors without data pass through them. A floor is the time that a data sheet
allows: bytes over bandwidth or operations over peak, whichever is longer. No kernel reaches it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rirn import ops
from rirn.bench.cases import DTYPES, Sizes
from rirn.bench.kernel_costs import CUDA, TRITON
from rirn.bench.launches import Cost, Formula, LaunchCounter
from rirn.bench.markdown import table
from rirn.bench.report import Row
from rirn.bench.subjects import Named, tensors
from rirn.doctor import commit, report
from rirn.errors import RirnError
from rirn.models import create_model
from rirn.nn import ATB, IRM, ResBlock
from rirn.ops import use_backend
from rirn.ops._library import library
from rirn.ops.backends import assume

LABEL = "counted, not measured"
MODELS = ("ifi-rnn+rirn", "rdbn+rirn")
FORMS: Mapping[str, Mapping[str, Formula]] = {"cuda": CUDA, "triton": TRITON}

FULL_MAPS, ONE_MAP = "atb_blend c=80", "atb_blend c=80, one map"
ADDED = "IRM c=20 + ATB c=80"
"""What RIRN adds to a step of IFI-RNN, without its fusing layers."""

BLEND_TENSORS = 5
IRM_BYTES, IRM_FLOPS, ADDED_LAUNCHES = 0.25, 1.25, 1 / 3
"""Most that kernels of ours may need of what the eager reference does."""


class Gpu(NamedTuple):
    """What a data sheet promises."""

    bandwidth: float
    """Of device memory, bytes per second."""
    peak: Mapping[str, float]
    """Operations per second: fp32 without tensor cores, half precision on them, dense."""

    def floor(self, cost: Cost, dtype: str) -> tuple[float, str]:
        """Least time in microseconds, and what bounds it: ``memory`` or ``arithmetic``."""
        memory, arithmetic = cost.bytes / self.bandwidth, cost.flops / self.peak[dtype]
        return 1e6 * max(memory, arithmetic), "memory" if memory >= arithmetic else "arithmetic"


GPUS = {
    "A100": Gpu(2.039e12, {"fp32": 19.5e12, "fp16": 312e12, "bf16": 312e12}),  # SXM, 80 GB
    "H100": Gpu(3.35e12, {"fp32": 67e12, "fp16": 989e12, "bf16": 989e12}),  # SXM
    "B200": Gpu(8e12, {"fp32": 75e12, "fp16": 2250e12, "bf16": 2250e12}),
}


class Subject(NamedTuple):
    """Something to count, with what it is called with."""

    call: Callable[..., Any]
    inputs: tuple[Any, ...]
    parameters: tuple[Tensor, ...] = ()


Build = Callable[[torch.dtype], Subject]


def subjects(height: int, width: int) -> Iterator[tuple[str, Build]]:
    """Ops and modules on features of this size, with the channels of the published networks; each is built on the default
    device."""

    def images(dtype: torch.dtype, *channels: int) -> tuple[Tensor, ...]:
        return tuple(torch.empty(1, c, height, width, dtype=dtype, requires_grad=True) for c in channels)

    def function(op: Callable[..., Any], *channels: int) -> Build:
        return lambda dtype: Subject(op, images(dtype, *channels))

    def irm(c: int) -> Build:
        def build(dtype: torch.dtype) -> Subject:
            made = IRM(c).to(dtype)
            return Subject(Named(made, "hidden", "inner"), images(dtype, c, c), tuple(made.parameters()))

        return build

    def block(dtype: torch.dtype) -> Subject:
        made = ResBlock(80).to(dtype)
        return Subject(made, images(dtype, 80), tuple(made.parameters()))

    def dtb(dtype: torch.dtype) -> Subject:
        beta = torch.empty((), dtype=dtype, requires_grad=True)
        return Subject(ops.dtb_blend, (*images(dtype, 80, 80, 80), beta))

    def added(dtype: torch.dtype) -> Subject:
        irm, atb = IRM(20).to(dtype), ATB(80).to(dtype)
        return Subject(
            lambda hidden, inner, f_cur, f_prev: (
                irm(hidden=hidden, inner=inner),
                atb(f_prev=f_prev, f_cur=f_cur),
            ),
            images(dtype, 20, 20, 80, 80),
            (*irm.parameters(), *atb.parameters()),
        )

    yield FULL_MAPS, function(ops.atb_blend, 80, 80, 80, 80)
    yield ONE_MAP, function(ops.atb_blend, 80, 80, 1, 1)
    yield "dtb_blend c=80", dtb
    for c in (16, 20, 32):
        yield f"irm_update c={c}", irm(c)
    yield "conv3x3_chain c=80, residual block", block
    yield "gru_reset c=20", function(ops.gru_reset, 20, 20)
    yield "gru_update c=20", function(ops.gru_update, 20, 20, 20)
    yield "lstm_update c=20", function(ops.lstm_update, 80, 20)
    yield "fac c=32", function(ops.fac, 32, 800)
    yield ADDED, added


def step(name: str, height: int, width: int) -> Build:
    """A step of a network amid a video."""

    def build(dtype: torch.dtype) -> Subject:
        model = create_model(name).to(dtype).eval()
        frame = torch.empty(1, 3, height, width, dtype=dtype)
        sharp = state = None
        with torch.no_grad(), use_backend("reference"):
            while sharp is None:
                sharp, state = model.step(frame, state)
        return Subject(model.step, (frame, state))

    return build


def eager(build: Build, dtype: torch.dtype, passes: str) -> Cost:
    """The reference as written, throughout in ``dtype``. It is counted in float32 and its bytes are scaled: in half precision
    the reference of most ops computes in float32, and the casts would make a rival of straw."""
    with torch.device("meta"), use_backend("reference"):
        return _count(build(torch.float32), passes).in_dtype(dtype)


def fused(build: Build, dtype: torch.dtype, passes: str, form: str, *, auto: bool = False) -> Cost:
    """The way through rirn's kernels of a form, and with ``auto`` through the library where they hand over to it."""
    formulas, backend = FORMS[form], "auto" if auto else "cuda"
    with torch.device("meta"), assume("cuda", inference_ops="atb_update" in formulas), use_backend(backend):
        return _count(build(dtype), passes, formulas)


def _count(subject: Subject, passes: str, formulas: Mapping[str, Formula] | None = None) -> Cost:
    if passes == "forward":
        with torch.no_grad(), LaunchCounter(formulas) as counter:
            subject.call(*subject.inputs)
        return counter.cost
    out = tensors(subject.call(*subject.inputs))
    grads = [torch.empty_like(t) for t in out]
    wanted = [*tensors(subject.inputs), *subject.parameters]
    with LaunchCounter(formulas) as counter:
        torch.autograd.grad(out, wanted, grads)
    return counter.cost


def count(dtypes: Sequence[str], sizes: Sizes) -> list[Row]:
    """Return a row for each case, pass, dtype and form: launches, bytes, operations and floors."""
    cases = [
        (name, passes, build)
        for name, build in subjects(*sizes.features)
        for passes in ("forward", "backward")
    ]
    cases += [(f"step of {name}", "forward", step(name, *sizes.frame)) for name in MODELS]
    rows = []
    for name, passes, build in cases:
        for dtype in dtypes:
            costs = {"eager": eager(build, DTYPES[dtype], passes)}
            auto = name == ADDED or name.startswith("step")
            costs |= {form: fused(build, DTYPES[dtype], passes, form, auto=auto) for form in FORMS}
            for form, cost in costs.items():
                floors = {gpu: facts.floor(cost, dtype) for gpu, facts in GPUS.items()}
                rows.append(
                    {
                        "case": name,
                        "passes": passes,
                        "dtype": dtype,
                        "form": form,
                        **dataclasses.asdict(cost),
                        "floor_us": {gpu: time for gpu, (time, _) in floors.items()},
                        "bound": {gpu: bound for gpu, (_, bound) in floors.items()},
                    }
                )
    return rows


class Bar(NamedTuple):
    """A limit on what kernels may need, and what they do need."""

    what: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        return self.value <= self.limit

    def __str__(self) -> str:
        return (
            f"{'holds ' if self.holds else 'MISSED'} {self.what}: {self.value:.4g}, at most {self.limit:.4g}"
        )


def bars(rows: Sequence[Row], sizes: Sizes) -> list[Bar]:
    """Return the limits that the kernels were written for, for each dtype and form."""
    found = {(row["case"], row["passes"], row["dtype"], row["form"]): row for row in rows}
    blended = 80 * sizes.features[0] * sizes.features[1]
    limits = []
    for (name, passes, dtype, form), row in found.items():
        if form == "eager" or passes != "forward":
            continue
        rival = found[name, passes, dtype, "eager"]
        where = f"{name} {dtype} {form}"
        if name == FULL_MAPS:
            tensors_moved = row["bytes"] / (blended * DTYPES[dtype].itemsize)
            limits.append(Bar(f"{where}, tensors moved", tensors_moved, BLEND_TENSORS))
        if name.startswith("irm_update"):
            limits.append(Bar(f"{where}, bytes over eager's", row["bytes"] / rival["bytes"], IRM_BYTES))
            limits.append(Bar(f"{where}, operations over eager's", row["flops"] / rival["flops"], IRM_FLOPS))
        if name == ADDED:
            ratio = row["launches"] / rival["launches"]
            limits.append(Bar(f"{where}, launches over eager's", ratio, ADDED_LAUNCHES))
    return limits


def tables(found: Mapping[str, Any]) -> str:
    """Return the counts as Markdown."""
    groups: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in found["results"]:
        groups.setdefault((row["case"], row["passes"], row["dtype"]), {})[row["form"]] = row
    lines = [_line(key, forms) for key, forms in groups.items()]
    headings = [
        "case",
        "pass",
        "dtype",
        "launches",
        "MB",
        "CUDA / eager",
        "GFLOP",
        *(f"{g} floor us" for g in GPUS),
    ]
    return (
        "\n\n".join(
            (
                "**Counted, not measured.** Nothing here was run on a GPU. "
                f"Features {found['features']}, frames {found['frame']}, "
                f"batch 1, torch {found['versions']['torch']}, commit {found['commit'] or '-'}. "
                f"docs/cost-model.md says how to read it. Made by `{found['command']}`.",
                "Launches, MB and GFLOP: eager reference / CUDA / Triton. Floors: eager -> CUDA by the data sheet, `*` where "
                "arithmetic and not memory bounds it. GFLOP are those of convolutions and matrix products.",
                table(headings, lines),
                "\n".join(f"- {bar}" for bar in found["bars"]),
            )
        )
        + "\n"
    )


def _line(key: tuple[str, str, str], forms: Mapping[str, Row]) -> list[str]:
    def each(pattern: str, field: str, scale: float = 1) -> str:
        return " / ".join(pattern.format(row[field] / scale) for row in forms.values())

    def floor(gpu: str) -> str:
        marks = {"memory": "", "arithmetic": "*"}
        chosen = [forms[form] for form in ("eager", "cuda")]
        return " -> ".join(f"{row['floor_us'][gpu]:.1f}{marks[row['bound'][gpu]]}" for row in chosen)

    flops = each("{:.2f}", "flops", 1e9) if any(row["flops"] for row in forms.values()) else "-"
    ratio = f"{forms['cuda']['bytes'] / forms['eager']['bytes']:.2f}"
    return [*key, each("{:.0f}", "launches"), each("{:.1f}", "bytes", 1e6), ratio, flops, *map(floor, GPUS)]


def run(dtypes: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Count everything and return it with what a reader needs to repeat it.

    Raises:
        RirnError: there is no compiled library, whose ops are counted.
    """
    if not library().loaded:
        raise RirnError(f"--model-cost passes through the compiled ops: {library().reason}")
    rows = count(dtypes, sizes)
    return {
        "label": LABEL,
        "commit": commit(),
        "versions": report()["versions"],
        "features": "x".join(map(str, sizes.features)),
        "frame": "x".join(map(str, sizes.frame)),
        "gpus": {name: facts._asdict() for name, facts in GPUS.items()},
        "results": rows,
        "bars": [str(bar) for bar in bars(rows, sizes)],
    }
