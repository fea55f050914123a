"""Seeded bugs of atb_blend, and of what pointwise.cuh does for all ops from element to element."""

from tests.cuda_on_cpu.mutants import Mutant

OP, LOOP = "atb_blend.cuh", "pointwise.cuh"
FIRST_PIXEL = "const int64_t first = (int64_t)blockIdx.x * threads"
MUTANTS = [
    Mutant(
        "operands swapped",
        OP,
        "out[0] = sigmoid(logit_prev) * f_prev",
        "out[0] = sigmoid(logit_cur) * f_prev",
    ),
    Mutant("input not read that a gradient needs", OP, "0b01011", "0b00011"),
    Mutant(
        "tail one too far", LOOP, "rest = packs * N + (i - packs);", "rest = packs * N + (i - packs) + 1;"
    ),
    Mutant("packs one too far", LOOP, "if (i < packs) pointwise_pack", "if (i <= packs) pointwise_pack"),
    Mutant(
        "tail dropped",
        LOOP,
        "else if (N > 1 && rest < job.elements)",
        "else if (N > 8 && rest < job.elements)",
    ),
    Mutant(
        "gradient written though not wanted",
        LOOP,
        "if (job.out[t]) *reinterpret_cast<Pack",
        "*reinterpret_cast<Pack",
    ),
    Mutant("stride of a shared logit not 0", LOOP, "view.sizes[d] == 1 && sizes[d] != 1 ? 0 : ", ""),
    Mutant("shared logit read as a pack", LOOP, "if (from[inner] == 0) job.shared |= 1u << t;", ""),
    Mutant("alignment not looked at", LOOP, " || reinterpret_cast<uintptr_t>(data[t]) % kAccess", ""),
    Mutant(
        "missing barrier before sums are read",
        LOOP,
        "  __syncthreads();\n  for (int p = tid;",
        "  for (int p = tid;",
    ),
    Mutant("one thread left out of a sum", LOOP, "s < job.slices; ++s", "s < job.slices - 1; ++s"),
    Mutant(
        "channels start one too late",
        LOOP,
        "c = slice * kChannels; c < job",
        "c = slice * kChannels + 1; c < job",
    ),
    Mutant(
        "two blocks at the same pixels",
        LOOP,
        FIRST_PIXEL,
        FIRST_PIXEL.replace("blockIdx.x", "blockIdx.x / 2"),
    ),
]
