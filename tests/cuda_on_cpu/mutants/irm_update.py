"""Seeded bugs of the fused kernels of irm_update."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "irm_update.cuh"
ALSO = ("conv3x3_chain",)
MUTANTS = [
    Mutant("no barrier between layers", FILE, "  __syncthreads();\n}\n\n// Three", "}\n\n// Three"),
    Mutant("rim outside the image not zero", FILE, "if (there) {", "if (p < pixels) {"),
    Mutant(
        "rim of 1 where the next two layers read 2",
        FILE,
        "middle, 2, 0, kInner, true, false);  // x0",
        "middle, 1, 0, kInner, true, false);  // x0",
    ),
    Mutant("taps of another width", FILE, "middle, inside, 1, 1,", "middle, inside, 1, 0,"),
    Mutant(
        "skip connection lost",
        FILE,
        "inside, middle, 0, 2, kInner, false, true",
        "inside, middle, 0, 2, kInner, false, false",
    ),
    Mutant(
        "lanes vote for themselves",
        FILE,
        "if (__any_sync(0xffffffffu, inside)) multiply",
        "if (inside) multiply",
    ),
    Mutant(
        "tail of the last 16 pixels", FILE, "if (p >= pixels) continue;", "if (p >= pixels - 1) continue;"
    ),
    Mutant("second half of the pixels", FILE, "half * 8 + lane / 4", "half / 2 * 16 + lane / 4"),
    Mutant("bias past the last output", FILE, "if (channel < outputs) sum +=", "sum +="),
    Mutant(
        "result beyond the image",
        "conv3x3.cuh",
        "if (place.x + x >= w || place.y + y >= h) continue;",
        "if (place.y + y >= h) continue;",
    ),
]
