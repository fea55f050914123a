"""Files of results for ``rirn bench --from`` and ``--compare``."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tests.fuzz.kinds.base import Act, command
from tests.fuzz.mutate import change_value, damage


class Benchmarks:
    def __init__(self, seeds: Path):
        self.report = report()
        self.whole = seeds / "whole.json"
        self.whole.write_text(json.dumps(self.report))

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        path = folder / "in.json"
        if rng.random() < 0.3:
            path.write_bytes(damage(rng, self.whole.read_bytes()))
        else:
            changed: Any = self.report
            for _ in range(rng.randint(1, 3)):
                changed = change_value(rng, changed)
            path.write_text(json.dumps(changed))
        out = folder / "out"
        ways = (
            ("--from", path, "--markdown", out / "table.md"),
            ("--from", path, "--json", out / "again.json"),
            ("--from", self.whole, "--from", path, "--markdown", out / "table.md"),
            ("--from", self.whole, "--compare", path),
            ("--from", path, "--compare", self.whole),
        )
        return command("bench", *rng.choice(ways))


def report() -> dict[str, Any]:
    """What ``rirn bench --json`` writes, with made-up numbers."""
    rows = []
    for group, name, passes, channels in (
        ("ops", "atb_blend", "forward", 80),
        ("ops", "irm_update", "forward+backward", 20),
        ("modules", "ATB", "forward+backward", 80),
        ("ratios", "gru", "forward", None),
        ("ratios", "gru+rirn", "forward", None),
    ):
        for competitor, layout, ms in (
            ("reference", "contiguous", 4.0),
            ("compiled", "channels_last", 3.0),
            ("cpu", "contiguous", 1.5),
        ):
            backward = passes == "forward+backward"
            rows.append(
                {
                    "group": group,
                    "name": name,
                    "channels": channels,
                    "batch": 1,
                    "frames": 1,
                    "size": "6x7",
                    "dtype": "fp32",
                    "passes": passes,
                    "competitor": competitor,
                    "layout": layout,
                    "case": f"{name} 6x7 fp32",
                    "error": 1e-7,
                    "gradient_error": 1e-7 if backward else None,
                    "median_ms": ms,
                    "quartiles_ms": [ms - 0.1, ms + 0.1],
                    "rounds": 3,
                    "graph": False,
                    "peak_bytes": 1000,
                    "saved_bytes": 500 if backward else None,
                    "speedup": 4.0 / ms,
                    "speedup_over_compiled": 3.0 / ms,
                    "speedup_over_fp32": None,
                    "flops": None if name == "atb_blend" else 1e6,
                    "ideal_bytes": 1e5,
                    "GFLOP_per_s": None if name == "atb_blend" else 10.0,
                    "GB_per_s": 1.0,
                    "limit": "copy" if name == "atb_blend" else "fp32",
                    "share": 0.5,
                }
            )
    return {
        "command": "python -m rirn.bench --quick",
        "commit": "0123456789ab",
        "versions": {"torch": "2.13.0", "rirn": "0.1.0"},
        "device": "cpu",
        "devices": [{"name": "cpu", "model": "a processor"}],
        "threads": {"torch": 1},
        "load_average": 0.1,
        "cpu_isa": "avx512",
        "peak_memory": "counted",
        "limits": {"copy": 10.0, "fp32": 100.0, "bf16": 120.0},
        "results": rows,
    }
