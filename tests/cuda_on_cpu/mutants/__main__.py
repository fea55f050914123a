from __future__ import annotations

import sys

from tests.cuda_on_cpu.mutants import HEAD, caught_by, mutants, row

print(HEAD)
seeded = caught = 0
for op, mutant in mutants(*sys.argv[1:]):
    found = caught_by(op, mutant)
    seeded += 1
    caught += found is not None
    print(row(op, mutant, found), flush=True)
print(f"\n{caught} of {seeded} caught")
sys.exit(caught < seeded)
