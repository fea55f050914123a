"""Seeded bugs of the loop of all pointwise ops, which dtb_blend uses all of, and of dtb_blend."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "pointwise.cuh"
MUTANTS = [
    Mutant(
        "tail one too far", FILE, "rest = packs * N + (i - packs);", "rest = packs * N + (i - packs) + 1;"
    ),
    Mutant("tail left out", FILE, "else if (N > 1 && rest < job.elements)", "else if (false)"),
    Mutant("packs one too far", FILE, "if (i < packs) pointwise_pack", "if (i <= packs) pointwise_pack"),
    Mutant("no barrier in the channel sums", FILE, "= sums[t][k];\n  __syncthreads();", "= sums[t][k];"),
    Mutant("no barrier in the sum of a block", FILE, "= x;\n  __syncthreads();", "= x;"),
    Mutant(
        "a slice is not added",
        FILE,
        "for (int s = 0; s < job.slices; ++s)",
        "for (int s = 1; s < job.slices; ++s)",
    ),
    Mutant(
        "half of the lanes in the sum",
        FILE,
        "offset = 16; offset; offset /= 2",
        "offset = 16; offset > 1; offset /= 2",
    ),
    Mutant("gradient written though not wanted", FILE, "    if (job.out[t]) *rein", "    *rein"),
    Mutant("a shared value read as a pack", FILE, "if (N == 1 || !shared) return", "return"),
    Mutant(
        "alignment not looked at",
        FILE,
        "strides[t][dim] != 1 || reinterpret_cast<uintptr_t>(data[t]) % kAccess",
        "strides[t][dim] != 1",
    ),
    Mutant("rows of any length in packs", FILE, "bool packed = row % pack == 0 ||", "bool packed = true ||"),
    Mutant("stride of what is shared not 0", FILE, "view.sizes[d] == 1 && sizes[d] != 1 ? 0 : view", "view"),
    Mutant(
        "dimensions merged that do not touch",
        FILE,
        "merges = strides[t][nest.dims[nest.rank - 1]] == strides[t][d] * sizes[d];",
        "merges = t < count;",
    ),
    Mutant("an input counts as not read", "dtb_blend.cuh", "{0b11001, 0b11001,", "{0b11001, 0b10001,"),
]
