from __future__ import annotations

import sys

from tests.cuda_on_cpu.mutants import caught_by, mutants

print("| mutant | caught by |\n|---|---|")
missed = 0
for op, mutant in mutants(*sys.argv[1:]):
    found = caught_by(op, mutant)
    missed += found is None
    print(f"| {mutant} | {found or '**nobody**'} |", flush=True)
sys.exit(missed > 0)
