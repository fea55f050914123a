"""Time the fused ops and networks against the eager and the compiled reference: ``rirn bench``, ``python -m rirn.bench``.

Every competitor must first reproduce the reference in float64, output and every gradient; one that does not is not timed,
and the command exits with status 1. Times are medians over alternating rounds, with quartiles.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import torch

from rirn import markers
from rirn.bench import limits, markdown, plots, report
from rirn.bench.cases import QUICK, Sizes, select
from rirn.bench.gpu_steps import measure_for_auto
from rirn.bench.measure import Options, measure
from rirn.bench.options import GROUPS, MARKER, PASSES, check_files, parser
from rirn.devices import pick_device
from rirn.errors import RirnError, describe
from rirn.files import replacing
from rirn.measure.timing import clock_for
from rirn.ops import why_not
from rirn.ops.spec import OPS


def parse_size(option: str, text: str, form: str = "HEIGHTxWIDTH") -> tuple[int, ...]:
    """Return the numbers of e.g. ``180x320``, as many as ``form`` has."""
    parts = text.split("x")
    if len(parts) != len(form.split("x")) or not all(re.fullmatch(r"[1-9]\d*", part) for part in parts):
        examples = {"--clip": "2x8x128x128", "--size": "180x320" if form.count("x") == 1 else "1x32x270x480"}
        example = examples.get(option, "720x1280")
        raise RirnError(f"{option} must be {form} such as {example}, got {text!r}")
    return tuple(map(int, parts))


def parse_sizes(options: argparse.Namespace) -> Sizes:
    """Return the sizes that the options ask for."""
    sizes, size = QUICK if options.quick else Sizes(), options.size
    if size is not None and len(size.split("x")) == 4:
        batch, channels, *features = parse_size("--size", size, "BATCHxCHANNELSxHEIGHTxWIDTH")
        sizes, size = sizes._replace(batch=batch, channels=channels, features=tuple(features)), None
    given = (
        ("features", "--size", size, "HEIGHTxWIDTH"),
        ("frame", "--frame", options.frame, "HEIGHTxWIDTH"),
        ("clip", "--clip", options.clip, "BATCHxFRAMESxHEIGHTxWIDTH"),
    )
    return sizes._replace(
        **{field: parse_size(option, text, form) for field, option, text, form in given if text is not None}
    )


def check_backends(names: Sequence[str], device: torch.device) -> None:
    """Refuse backends that could not run a single op, with the reason."""
    for name in names:
        reasons = [why_not(name, op, device) for op in OPS]
        if None not in reasons:
            raise RirnError(f"--backend {name} cannot run here: {reasons[0]}")


READ = ("read", "only", "op", "model", "dtype", "passes", "json", "markdown", "plot", "compare")
"""Options that apply to older results: they choose rows and outputs."""


def refuse_others(options: argparse.Namespace, known: Sequence[str], reason: str) -> None:
    """Refuse options that would have no effect with the one that the reason names."""
    default = parser().get_default
    if any(value != default(name) for name, value in vars(options).items() if name not in known):
        raise RirnError(reason)


def write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Write results to the requested files."""
    if options.json is not None:
        with replacing(options.json) as partial:
            partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.markdown is not None:
        markers.write(options.markdown, MARKER, markdown.tables(found))


def run(argv: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure what the options ask for, printing as it goes, and return the report."""
    for option, value in (
        ("--rounds", options.rounds),
        ("--threads", options.threads),
        ("--seconds", options.seconds),
    ):
        if value is not None and not 0 < value < math.inf:
            raise RirnError(f"{option} must be above 0 and finite, got {value:g}")
    device, dtypes = pick_device(options.device), options.dtype or ["fp32"]
    cases = select(options.only or [], options.op or [], options.model or [], dtypes, parse_sizes(options))
    passes = options.passes or PASSES
    cases = [together for together in cases if set(GROUPS[together[0].group]) & set(passes)]
    if not cases:
        raise RirnError("no case has the passes asked for; networks have forward, training forward+backward")
    check_backends(options.backend or [], device)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if device.type == "cuda":  # fp32 means fp32: TF32 is 1000 times less precise
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.cuda.set_device(device.index or 0)
    clock = clock_for(device)
    settings = Options(
        device,
        clock,
        passes,
        options.rounds or (3 if options.quick else 20),
        options.seconds,
        not (options.quick or options.no_compile),
        options.backend or (),
    )
    facts = report.provenance(argv, device)
    print(f"{report.machine(facts)}, commit {facts['commit'] or '-'}")
    bounds = limits.measure(device, clock, dtypes, options.quick)
    print(f"limits: {report.limits_text(bounds)}", flush=True)
    results: list[report.Row] = []
    for together in cases:
        rows = report.rows(measure(together, settings), bounds)
        results += rows
        for group in report.groups(rows):
            print(report.format_rows(group), flush=True)
    return {**facts, "limits": bounds, "results": results}


def read(options: argparse.Namespace) -> dict[str, Any]:
    """Return the results of earlier runs that the options ask for."""
    found = report.join([report.load(path) for path in options.read])
    refuse_others(
        options, READ, "--from measures nothing; it takes what chooses rows and what becomes of them alone"
    )
    names = [*(options.op or []), *(options.model or [])]
    rows = report.keep(found["results"], options.only or [], names, options.dtype or [], options.passes or [])
    if not rows:
        raise RirnError("the files of --from hold no row of what is asked for; drop an option")
    return {**found, "results": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status: 0, or 1 if a competitor does not reproduce the reference."""
    argv = sys.argv[1:] if argv is None else list(argv)
    options = parser().parse_args(argv)
    if options.tune:
        refuse_others(options, ("tune",), "--tune chooses what it measures; it takes no other option")
        return measure_for_auto()
    check_files(options)
    if options.plot is not None:
        plots.pyplot("--plot", "bench")
    old = None if options.compare is None else report.load(options.compare)
    found = run(argv, options) if options.read is None else read(options)
    results = found["results"]
    for sentence in report.missed_bars(results):
        print(sentence)
    write(options, found)
    if options.plot is not None:
        print("\n".join(map(str, plots.draw(found, options.plot))))
    if old is not None:
        print(report.compare(found, old))
    ratios = markdown.ratios(results)
    if ratios and options.read is None:
        print(ratios)
    mismatches = sum(row["median_ms"] is None for row in results)
    if mismatches:
        print(f"{mismatches} of {len(results)} rows do not reproduce the reference", file=sys.stderr)
    return 1 if mismatches else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RirnError as refusal:
        sys.exit(f"rirn bench: {refusal}")
    except OSError as error:
        sys.exit(f"rirn bench: {describe(error)}")
