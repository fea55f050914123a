from __future__ import annotations

import sys

from tests.cuda_on_cpu.mutants import HEAD, caught_by, mutants, row

print(HEAD)
missed = 0
for op, mutant in mutants(*sys.argv[1:]):
    found = caught_by(op, mutant)
    missed += found is None
    print(row(op, mutant, found), flush=True)
sys.exit(missed > 0)
