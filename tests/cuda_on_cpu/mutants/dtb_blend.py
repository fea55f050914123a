"""Seeded bugs of dtb_blend, and of the sums over everything in pointwise.cuh."""

from tests.cuda_on_cpu.mutants import Mutant

LOOP = "pointwise.cuh"
MUTANTS = [
    Mutant(
        "operands swapped",
        "formulas.h",
        "weight * f_cur + (1.f - weight) * f_prev",
        "weight * f_prev + (1.f - weight) * f_cur",
    ),
    Mutant(
        "missing barrier in the sum of a block",
        LOOP,
        "warps[threadIdx.x / 32] = x;\n  __syncthreads();",
        "warps[threadIdx.x / 32] = x;",
    ),
    Mutant("half of the lanes in the sum", LOOP, "int offset = 16; offset;", "int offset = 8; offset;"),
    Mutant(
        "wrong thread writes the sum",
        LOOP,
        "if (threadIdx.x == 0) job.totals",
        "if (threadIdx.x == kThreads) job.totals",
    ),
    Mutant(
        "shuffle in a branch",
        LOOP,
        "  total = block_sum(total);",
        "  if (total != 0) total = block_sum(total);",
    ),
]
