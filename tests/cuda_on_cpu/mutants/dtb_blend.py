"""Seeded bugs of the loop of all pointwise ops, which dtb_blend uses all of, and of dtb_blend."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "pointwise.cuh"
BARRIER = "__syncthreads();"
MUTANTS = [
    Mutant("tail one too far", FILE, "packs * N + (i - packs)", "packs * N + (i - packs) + 1"),
    Mutant("tail left out", FILE, "N > 1 && rest < job.elements", "false"),
    Mutant("packs one too far", FILE, "i < packs", "i <= packs", "if (@) pointwise_pack"),
    Mutant("no barrier in the channel sums", FILE, BARRIER, "", "= sums[t][k];\n  @"),
    Mutant("no barrier in the sum of a block", FILE, BARRIER, "", "= x;\n  @"),
    Mutant("a slice is not added", FILE, "0", "1", "for (int s = @; s < job.slices; ++s)"),
    Mutant("half of the lanes in the sum", FILE, "offset", "offset > 1", "offset = 16; @; offset /= 2"),
    Mutant("gradient written though not wanted", FILE, "job.out[t]", "&out[t].v[0]", "    if (@) *rein"),
    Mutant("a shared value read as a pack", FILE, "N == 1 || !shared", "true", "if (@) return"),
    Mutant(
        "alignment not looked at",
        FILE,
        "strides[t][dim] != 1 || reinterpret_cast<uintptr_t>(data[t]) % kAccess",
        "strides[t][dim] != 1",
    ),
    Mutant("rows of any length in packs", FILE, "row % pack == 0", "true", "bool packed = @ ||"),
    Mutant(
        "stride of what is shared not 0", FILE, "view.sizes[d] == 1 && sizes[d] != 1", "false", "@ ? 0 : view"
    ),
    Mutant(
        "dimensions merged that do not touch",
        FILE,
        "strides[t][nest.dims[nest.rank - 1]] == strides[t][d] * sizes[d]",
        "t < count",
        "merges = @;",
    ),
    Mutant(
        "an input counts as not read",
        "dtb_blend.cu",
        "{0b11001, 0b11001,",
        "{0b11001, 0b10001,",
        constant=True,
    ),
]
