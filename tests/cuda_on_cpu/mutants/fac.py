"""Seeded bugs of fac."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "fac.cuh"
MUTANTS = [
    Mutant("padding reflects", FILE, "0", "-i < count ? -i : 0", "return i < 0 ? @ : i < count"),
    Mutant("no barrier before the halo is read", FILE, "__syncthreads();", "", "@\n  }\n"),
    Mutant("no barrier before the filters are read", FILE, "__syncthreads();", "", "@\n  FacPlace at;"),
    Mutant("no barrier before the filters are written", FILE, "__syncthreads();", "", "@\n  fac_each_pack"),
    Mutant("halo one row short", FILE, "kHeight", "kHeight - 1", "i < @ * kWidth; i += kThreads"),
    Mutant("tile without bounds", FILE, "if (at.y >= job.height || at.x >= job.width) return;", ""),
    Mutant("nothing from the left", FILE, "if (column > 0) sums[kFacReach + k] += from_left;", ""),
    Mutant("wrong tap at the edge of a tile", FILE, "tap + 3", "tap + 4", "@, y_out, x - 1)"),
    Mutant("the border keeps its gradients to itself", FILE, "i == 0 ? -kFacReach : i", "i", "return @;"),
    Mutant(
        "gradient written though not wanted",
        FILE,
        "job.grad_kernels.data",
        "reinterpret_cast<T*>(kAccess)",
        "if (@) {\n    halo",
    ),
    Mutant("rows of any length in packs", FILE, "t.size(3) % pack == 0", "true"),
]
