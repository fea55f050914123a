"""The measurements of :mod:`rirn.bench.first_gpu`: each step yields rows of JSON types, written as soon as they are ready.

``python -m rirn.bench.gpu_steps STEP FILE`` appends the rows of a step that FILE lacks; with ``--rehearse``, small ones on the
CPU. ``python -m rirn.bench.gpu_steps call KERNEL`` runs an op that launches the kernel, for profilers.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from rirn import doctor, ops
from rirn.bench import limits, tune
from rirn.bench.cases import QUICK, Case, Sizes
from rirn.bench.measure import (
    FUSED,
    Competitor,
    Entrant,
    Errors,
    Truth,
    gradient_error,
    matches,
    value_error,
)
from rirn.bench.subjects import Step, Subject, make, on_library, work
from rirn.errors import RirnError
from rirn.measure.timing import Clock, CudaClock, Job, alternate, clock_for
from rirn.ops import tuning, why_not
from rirn.ops.backends import why_no_gpu
from rirn.ops.spec import OPS
from rirn.video.benchmark import benchmark
from rirn.weights import load, shipped

Row = dict[str, Any]
Rows = Iterator[tuple[str, Callable[[], Row]]]
"""Name of each row, and the function that makes it."""

NETWORKS = ("rirn-small", "ifi-rnn+rirn", "rdbn+rirn", "stfan+rirn")
ROUNDS, SECONDS = 10, 0.5  # per case
LAUNCHES = 200
TOP = 15


class Kernel(NamedTuple):
    """A call that launches a kernel: an op or module with some number of channels on a backend, in bfloat16."""

    op: str
    channels: int
    backend: str = "cuda"
    layout: str = "channels_last"
    passes: str = "forward"


KERNELS = {
    "irm_three_layers": Kernel("irm_update", 20),
    "conv3x3_mma": Kernel("conv3x3_chain", 64),
    "conv3x3_weight_gradient_mma": Kernel("conv3x3_chain", 64, passes="forward+backward"),
    "atb_gates": Kernel("ATB", 80, "auto"),
    "fac_channels_last": Kernel("fac", 32),
    "pointwise": Kernel("atb_blend", 80, layout="NCHW"),
    "_conv": Kernel("conv3x3_chain", 64, "triton"),
}
"""The kernels to profile, by the names that a profiler shows; the last one is Triton's."""


class Bench(NamedTuple):
    """Where and at which sizes everything is measured, and the limits of the device."""

    device: torch.device
    clock: Clock
    sizes: Sizes
    bounds: Mapping[str, float]


def make_bench(rehearse: bool) -> Bench:
    """Return the GPU at the usual sizes or, to rehearse, the CPU at small ones."""
    device = torch.device("cpu" if rehearse else "cuda")
    clock = clock_for(device)
    with tf32(False):
        bounds = limits.measure(device, clock, ("fp32", "bf16"), quick=rehearse)
    return Bench(device, clock, QUICK if rehearse else Sizes(), bounds)


@contextlib.contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid torch to use TF32 for products in float32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def one_line(error: Exception) -> str:
    """The beginning of an error message."""
    return " ".join(str(error).split())[:200]


def entrants(case: Case, layout: str, bench: Bench, compiled: bool) -> dict[str, Entrant]:
    """The competitors in a case, by column: each of our backends that can run, ``auto``, and torch in the dtype of the
    case, also with TF32 (for ops without convolutions, the reference); or only the compiled library."""
    subject = make(case)
    library = on_library(subject)
    if compiled:
        competitor = Competitor("compiled", "reference", layout, compiled=True)
        return {"compiled": Entrant(competitor, library, case, bench.device)}
    op = case.name if case.name in OPS else "conv3x3_chain"  # modules
    names = [*(b for b in FUSED if why_not(b, op, bench.device) is None), "auto"]
    found = {name: Entrant(Competitor(name, name, layout), subject, case, bench.device) for name in names}
    found["library"] = Entrant(Competitor("library", "reference", layout), library, case, bench.device)
    if case.dtype == "fp32" and not case.is_pointwise:
        found["tf32"] = found["library"]
    return found


def compare(case: Case, layout: str, bench: Bench, passes: str = "forward", compiled: bool = False) -> Row:
    """Time all competitors on a case, in microseconds, with the device's lower bound; wrong results are not timed."""
    backward = passes != "forward"
    truth = Truth(case, make(case), bench.device, with_gradients=backward)
    demand = work(case, passes)
    seconds = demand.bytes / bench.bounds["copy"] / 1e9
    if demand.flops and not case.is_pointwise:
        seconds = max(seconds, demand.flops / limits.product(bench.bounds, case.dtype) / 1e9)
    row: Row = {"floor": 1e6 * seconds, "errors": {}, "failed": {}, "without_graph": []}
    jobs: dict[str, Job] = {}
    for name, entrant in entrants(case, layout, bench, compiled).items():
        rounded = name in ("tf32", "compiled")
        job = Job(partial(with_tf32, rounded, entrant.job(passes).run))
        try:
            found = job.run(None)
            if backward:
                errors = Errors(0.0, gradient_error(found, truth.gradients))
            else:
                errors = Errors(value_error(found, truth.outputs))
            row["errors"][name] = max(errors)
            if not (rounded or matches(case, errors)):
                raise RirnError(f"error {max(errors):.1e} against float64")
            jobs[name], replayed = bench.clock.ready(job)
            row["without_graph"] += [] if replayed else [name]
        except Exception as refusal:  # of any compiler or library: one that fails does not stop the others
            row["failed"][name] = one_line(refusal)
    times = alternate(jobs, bench.clock, ROUNDS, SECONDS)
    baselines = {name: times[name].median for name in times if name not in ("auto", "tf32")}
    row |= {name: 1e3 * spread.median for name, spread in times.items()}
    ours = [error for name, error in row["errors"].items() if name in (*FUSED, "auto")]
    return row | {
        "best": min(baselines, key=baselines.__getitem__, default=None),
        "error": max(ours, default=None),
    }


def with_tf32(allowed: bool, run: Callable[[object], object], prepared: object) -> object:
    """Run a job with or without TF32."""
    with tf32(allowed):
        return run(prepared)


def ceilings(bench: Bench) -> Rows:
    """Limits of the device, and the cost of a launch and a call in Python and in a graph."""
    yield "limits, GB/s and GFLOP/s", lambda: dict(bench.bounds)
    x, images = torch.zeros(1, device=bench.device), torch.zeros(4, 1, 8, 8, 8, device=bench.device)
    calls = {"a launch": lambda: x.add_(1), "a call of atb_blend": lambda: ops.atb_blend(*images.unbind(0))}
    for name, call in calls.items():
        yield f"{name}, us", partial(launch_costs, call, bench.clock)


def launch_costs(call: Callable[[], object], clock: Clock) -> Row:
    """Cost of one of many calls, in microseconds."""

    def run(_: object) -> None:
        for _ in range(LAUNCHES):
            call()

    python = enqueue(call, LAUNCHES)
    job, _ = clock.ready(Job(run))
    clock.sample(job, 1)
    return {"python": 1e6 * python, "graph": 1e6 * clock.sample(job, 3) / LAUNCHES}


def enqueue(call: Callable[[], object], calls: int) -> float:
    """Seconds that Python takes for one call, without waiting for a GPU."""
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begin) / calls


def table_cases(bench: Bench) -> Iterator[tuple[Case, str]]:
    """Every op in half and single precision, in both layouts."""
    for dtype in ("bf16", "fp32"):
        for name, op in OPS.items():
            for c in op.channels:
                for layout in ("NCHW", "channels_last"):
                    yield Case("ops", name, c, *bench.sizes.features, dtype), layout


def op_table(bench: Bench) -> Rows:
    """Every op against torch."""
    for case, layout in table_cases(bench):
        yield f"{case} {layout}", partial(compare, case, layout, bench)


def compiled(bench: Bench) -> Rows:
    """The compiled library, in the layout that suits it."""
    for case, layout in table_cases(bench):
        if layout == ("NCHW" if case.is_pointwise else "channels_last"):
            yield f"{case} {layout}", partial(compare, case, layout, bench, compiled=True)


def guesses(bench: Bench) -> Rows:
    """Cases that ``auto`` decides by rule: widths, sizes and dtypes at which another backend may be faster."""
    h, w = bench.sizes.features
    layout, small = tune.LAYOUT, Sizes((h // 2, w // 2))
    cases = [case for _, _, case in tune.cases(bench.sizes)]
    cases += [case for op, _, case in tune.cases(small) if op == "conv3x3_chain" and case.dtype == "bf16"]
    for case in cases:
        yield f"{case} {layout}", partial(compare, case, layout, bench)
    for name in OPS:
        case = Case("ops", name, OPS[name].channels[0], h, w, "bf16")
        yield f"{case} {layout}, both passes", partial(compare, case, layout, bench, "forward+backward")
    yield "atb_blend c=80 behind a flush that writes or reads", partial(flushes, bench)


def measure_for_auto() -> int:
    """Measure every width, print the rows and write the table that ``auto`` reads; return the exit status.

    Raises:
        RirnError: there is no GPU.
    """
    missing = why_no_gpu()
    if missing is not None:
        raise RirnError(f"--tune measures a GPU: {missing}")
    bench, rows = make_bench(rehearse=False), {}
    for _, _, case in tune.cases(bench.sizes):
        row = rows[tune.name_of(case)] = compare(case, tune.LAYOUT, bench)
        times = [f"{form} {row[form]:.1f} us" for form in (*tuning.FORMS, "tf32") if form in row]
        print(f"{case}: {', '.join(times) or row['failed']}", flush=True)
    file, gpu = tuning.path(), torch.cuda.get_device_name(bench.device)
    tuning.write(file, gpu, tune.table(rows, bench.sizes))
    print(f"{file} says from now on what auto takes on {gpu}")
    return 0


def flushes(bench: Bench) -> Row:
    """Time an op after flushing the L2 cache by reading, as the clock does, and by writing."""
    if not isinstance(bench.clock, CudaClock):
        return {"says": "only the clock of a GPU flushes a cache"}
    case = Case("ops", "atb_blend", 80, *bench.sizes.features, "bf16")
    entrant = Entrant(Competitor("auto", "auto"), make(case), case, bench.device)
    job, _ = bench.clock.ready(entrant.job("forward"))
    read, written = (clock.sample(job, 20) for clock in (bench.clock, WritingClock(bench.device)))
    return {"read": 1e6 * read, "written": 1e6 * written}


class WritingClock(CudaClock):
    """A clock that flushes the cache by writing."""

    def _clear_cache(self) -> None:
        self.flush.zero_()


@functools.lru_cache(maxsize=1)
def network(name: str, size: tuple[int, int], dtype: str) -> tuple[Case, Subject]:
    """One step of a network within a video."""
    case = Case("models", name, None, *size, dtype)
    if name not in shipped():
        return case, make(case)
    model, frame, image, state = load(name), torch.rand(1, 3, *size), None, None
    with torch.no_grad():
        while image is None:
            image, state = model.step(frame, state)
    return case, Subject(Step(model), (frame, state))


def stepper(name: str, dtype: str, layout: str, bench: Bench) -> Callable[[], object]:
    """Return a function that runs a step of a network with ``auto``."""
    case, subject = network(name, bench.sizes.frame, dtype)
    return Entrant(Competitor("auto", "auto", layout), subject, case, bench.device).infer


def steps(bench: Bench) -> Rows:
    """Whole steps of networks, in milliseconds."""
    for name in NETWORKS:
        for dtype in ("bf16", "fp32"):
            for layout in ("NCHW", "channels_last"):
                yield f"{name} {dtype} {layout}", partial(step_times, name, dtype, layout, bench)


def step_times(name: str, dtype: str, layout: str, bench: Bench) -> Row:
    """Time of a step in Python, and on the device by calls and by a graph, with torch's default TF32 settings."""
    step = stepper(name, dtype, layout, bench)
    python, eager = enqueue(step, 3), Job(lambda _: step())
    jobs = {"eager": eager, "graph": bench.clock.ready(eager)[0]}
    times = alternate(jobs, bench.clock, ROUNDS, 2.0)
    return {"python": 1e3 * python, **{name: spread.median for name, spread in times.items()}}


def profiles(bench: Bench) -> Rows:
    """Where steps and a training step spend their time."""
    for name in NETWORKS[:2]:
        step = partial(stepper, name, "bf16", "channels_last", bench)
        yield f"{name} bf16 channels_last, a step", lambda step=step: profiled(step(), bench.device)
    yield "ifi-rnn+rirn, a training step under autocast", partial(training, bench)


def training(bench: Bench) -> Row:
    """Profile a step as the trainer does it: forward in bfloat16, loss, backward and Adam."""
    rehearsed = bench.device.type == "cpu"
    n, t, *size = bench.sizes.clip if rehearsed else (16, 12, 256, 256)
    case = Case("train", "ifi-rnn+rirn", None, *size, "fp32", batch=n, frames=t)
    subject = make(case).to(bench.device, torch.float32, "channels_last")
    adam = torch.optim.Adam(subject.module.parameters(), fused=not rehearsed)

    def step() -> None:
        adam.zero_grad(set_to_none=True)
        with torch.autocast(bench.device.type, torch.bfloat16):
            loss = subject.module(*subject.inputs)
        loss.backward()
        adam.step()

    return profiled(step, bench.device)


def profiled(call: Callable[[], object], device: torch.device) -> Row:
    """The kernels that take most of a call's time (on the CPU, the operators), in milliseconds and shares."""
    on_gpu, kinds = device.type == "cuda", torch.profiler.ProfilerActivity
    for _ in range(2):
        call()
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA] if on_gpu else [kinds.CPU]) as profile:
        begin = time.perf_counter()
        call()
        if on_gpu:
            torch.cuda.synchronize(device)
        whole = 1e3 * (time.perf_counter() - begin)
    events = [e for e in profile.key_averages() if e.device_type.name.lower() == device.type]
    events = [e for e in events if not getattr(e, "is_user_annotation", False)]
    spent = [(e.self_device_time_total if on_gpu else e.self_cpu_time_total, e.count, e.key) for e in events]
    total = sum(us for us, _, _ in spent)
    return {
        "whole": whole,
        "device": total / 1e3,
        "launches": sum(count for _, count, _ in spent),
        "top": [
            {"ms": us / 1e3, "share": us / total, "calls": count, "kernel": key[:100]}
            for us, count, key in sorted(spent, reverse=True)[:TOP]
        ],
    }


def deblur(bench: Bench) -> Rows:
    """``rirn deblur --benchmark`` on uncompressed images, which take almost no time to decode."""
    for name in shipped():
        yield f"{name} bf16", partial(deblurred, name, bench)


def deblurred(name: str, bench: Bench) -> Row:
    """Frames per second of a folder of images."""
    picture = np.random.default_rng(0).integers(0, 256, (*bench.sizes.frame, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(6 if bench.device.type == "cpu" else 60):
            Image.fromarray(np.roll(picture, i, 1)).save(Path(folder) / f"{i:03d}.ppm")
        found = benchmark(load(name), folder, device=bench.device, dtype="bf16")
    return {"frames_per_s": found.fps, "says": str(found)}


def facts(bench: Bench | None) -> Rows:
    """Facts about the machine; needs no GPU."""
    yield "doctor", doctor.report


STEPS: dict[str, Callable[..., Rows]] = {
    f.__name__: f for f in (facts, ceilings, op_table, compiled, guesses, steps, profiles, deblur)
}


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, except a truncated one."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def run(step: str, path: Path, rehearse: bool) -> None:
    """Append the missing rows of a step, each as soon as it is made."""
    there = read_rows(path)
    path.write_text("".join(json.dumps(row) + "\n" for row in there), encoding="utf-8")
    bench = None if step == "facts" else make_bench(rehearse)
    for what, make_row in STEPS[step](bench):
        if what in {row["what"] for row in there}:
            continue
        torch.compiler.reset()  # or the limit on compiled versions of one function counts those of other rows
        try:
            row = make_row()
        except Exception as refusal:
            traceback.print_exc()
            row = {"failed": {"all": one_line(refusal)}}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"what": what, **row}) + "\n")
        if bench is not None and bench.device.type == "cuda":
            torch.cuda.synchronize()  # after an illegal access, nothing more runs in this process


def call(name: str, rehearse: bool) -> None:
    """Run the op that launches a kernel three times."""
    kernel = KERNELS[name]
    device, sizes = torch.device("cpu" if rehearse else "cuda"), QUICK if rehearse else Sizes()
    group = "ops" if kernel.op in OPS else "modules"
    case = Case(group, kernel.op, kernel.channels, *sizes.features, "bf16")
    competitor = Competitor(name, "auto" if rehearse else kernel.backend, kernel.layout)
    entrant = Entrant(competitor, make(case), case, device)
    for _ in range(3):
        entrant.job(kernel.passes).run(None)


def main(argv: Sequence[str] | None = None) -> None:
    """Run one step, or one kernel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=[*STEPS, "call"])
    parser.add_argument("file", help="file of rows; for call, the name of a kernel")
    parser.add_argument("--rehearse", action="store_true", help="use small sizes and the CPU")
    options = parser.parse_args(argv)
    if options.step == "call":
        call(options.file, options.rehearse)
    else:
        run(options.step, Path(options.file), options.rehearse)


if __name__ == "__main__":
    try:
        main()
    except RirnError as refusal:
        sys.exit(str(refusal))
