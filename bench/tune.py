"""Find the fastest backend of ops with convolutions on a GPU, at each width, for ``auto`` to read; see rirn.ops.tuning."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from rirn.bench.cases import Case, Sizes
from rirn.ops import tuning

WIDTHS = {
    "conv3x3_chain": (16, 20, 32, 40, 64, 80, 128),
    "irm_update": (16, 20, 32, 64, 128),
    "atb_update": (16, 48, 64, 80, 128),
}
LAYOUT = "channels_last"
COLUMNS = {"half": "library", "float32": "library", "tf32": "tf32"}
"""By precision, the column with torch's time."""


def cases(sizes: Sizes) -> Iterator[tuple[str, int, Case]]:
    """Yield op, width and case to time; ``atb_update`` has no float32 form."""
    for op, widths in WIDTHS.items():
        for dtype, c in itertools.product(("bf16",) if op == "atb_update" else ("bf16", "fp32"), widths):
            group, name = ("modules", "ATB") if op == "atb_update" else ("ops", op)
            yield op, c, Case(group, name, c, *sizes.features, dtype)


def name_of(case: Case) -> str:
    """The name of a case's row."""
    return f"{case} {LAYOUT}"


def table(rows: Mapping[str, Mapping[str, Any]], sizes: Sizes) -> tuning.Table:
    """Make the table for ``auto`` from the rows of :func:`rirn.bench.gpu_steps.compare`, by name; rows that are missing or
    have no times are ignored."""
    fastest: dict[str, dict[str, list[tuning.Step]]] = {}
    for op, c, case in cases(sizes):
        row = rows.get(name_of(case), {})
        for kind in ("half",) if case.dtype == "bf16" else ("float32", "tf32"):
            times = {form: row.get(form) for form in ("cuda", "triton")} | {"library": row.get(COLUMNS[kind])}
            known = {form: time for form, time in times.items() if time is not None}
            if known:
                best = min(known, key=known.__getitem__)
                fastest.setdefault(op, {}).setdefault(kind, []).append((c, best))
    return {op: {kind: steps(found) for kind, found in kinds.items()} for op, kinds in fastest.items()}


def steps(fastest: list[tuning.Step]) -> tuning.Steps:
    """Merge widths with the same fastest form, and drop those at the end where torch is fastest."""
    groups = [list(group) for _, group in itertools.groupby(sorted(fastest), key=lambda step: step[1])]
    if groups and groups[-1][0][1] == "library":
        del groups[-1]
    return tuple(group[-1] for group in groups)
