"""Seeded bugs of the fused kernels of irm_update."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "irm_update.cuh"
ALSO = ("conv3x3_chain",)
MUTANTS = [
    Mutant("no barrier between layers", FILE, "__syncthreads();", "", "  @\n}\n\n// Three"),
    Mutant("rim outside the image not zero", FILE, "there", "p < pixels", "if (@) {"),
    Mutant(
        "rim of 1 where the next two layers read 2",
        FILE,
        "2",
        "1",
        "middle, @, 0, kInner, true, false);  // x0",
    ),
    Mutant("taps of another width", FILE, "1", "0", "middle, inside, 1, @, kInner"),
    Mutant("skip connection lost", FILE, "true", "false", "inside, middle, 0, 2, kInner, false, @);"),
    Mutant("lanes vote for themselves", FILE, "__any_sync(0xffffffffu, inside)", "inside"),
    Mutant("tail of the last 16 pixels", FILE, "p >= pixels", "p >= pixels - 1", "if (@) continue;"),
    Mutant("second half of the pixels", FILE, "half * 8 + lane / 4", "half / 2 * 16 + lane / 4"),
    Mutant("bias past the last output", FILE, "channel < outputs", "true", "if (@) sum +="),
    Mutant(
        "result beyond the image",
        "conv3x3_mma.cuh",
        "place.x + x >= w || place.y + y >= h",
        "place.y + y >= h",
    ),
    Mutant(
        "only as many packed as there are threads",
        "conv3x3_mma.cuh",
        "i += threads",
        "i = size",
        "i < size; @) {",
    ),
]
