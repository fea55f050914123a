"""Seeded bugs of fac."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "fac.cuh"
INSIDE = "  const bool inside = at.y < H && x < W;\n"
MUTANTS = [
    Mutant("missing barrier", FILE, "    __syncthreads();\n", ""),
    Mutant("wrong padding", FILE, "return i < 0 ? 0 :", "return i < 0 ? -i :"),
    Mutant("padding one too far", FILE, "i < count ? i : count - 1", "i <= count ? i : count - 1"),
    Mutant(
        "halo shifted", FILE, "nearest(place.tile_x + column - kFacReach", "nearest(place.tile_x + column"
    ),
    Mutant(
        "threads outside the image not stopped",
        FILE,
        "if (at.y >= job.height || at.x >= job.width) return;",
        "",
    ),
    Mutant("wrong lane", FILE, "sums[N + kFacReach + k], 1, Tile", "sums[N + kFacReach + k], 2, Tile"),
    Mutant("threads leave before the shuffle", FILE, INSIDE, f"{INSIDE}  if (!inside) return;\n"),
    Mutant(
        "taps not turned round",
        FILE,
        "const int x_out = x + kFacReach - j;",
        "const int x_out = x - kFacReach + j;",
    ),
    Mutant("next tile forgotten", FILE, "if (column == 0 && x > 0)", "if (column == 0 && x > W)"),
    Mutant("reads past the end of a row", FILE, "x + N < W)", "x + N <= W)"),
    Mutant("border forgotten", FILE, "if (x == 0) sums[kFacReach] += sums[0] + sums[1];", ""),
]
