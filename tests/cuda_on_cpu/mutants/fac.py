"""Seeded bugs of fac."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "fac.cuh"
MUTANTS = [
    Mutant(
        "padding reflects",
        FILE,
        "return i < 0 ? 0 : i < count",
        "return i < 0 ? (-i < count ? -i : 0) : i < count",
    ),
    Mutant("no barrier before the halo is read", FILE, "    __syncthreads();\n", ""),
    Mutant(
        "halo one row short",
        FILE,
        "i < kHeight * kWidth; i += kThreads",
        "i < (kHeight - 1) * kWidth; i += kThreads",
    ),
    Mutant("tile without bounds", FILE, "  if (at.y >= job.height || at.x >= job.width) return;\n", ""),
    Mutant("nothing from the left", FILE, "    if (column > 0) sums[kFacReach + k] += from_left;\n", ""),
    Mutant("wrong tap at the edge of a tile", FILE, "tap + 3, y_out, x - 1)", "tap + 4, y_out, x - 1)"),
    Mutant("the border keeps its gradients to itself", FILE, "return i == 0 ? -kFacReach : i;", "return i;"),
    Mutant(
        "gradient written though not wanted",
        FILE,
        "  if (job.grad_kernels.data) {\n    halo",
        "  if (true) {\n    halo",
    ),
    Mutant("rows of any length in packs", FILE, "t.size(3) % pack == 0 && ", ""),
]
