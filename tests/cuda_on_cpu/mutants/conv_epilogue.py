"""Seeded bugs of conv_epilogue; those of its loop stand with the blending of DTB."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "conv_epilogue.cu"
MUTANTS = [
    Mutant("skip left out", FILE, "sum += in[2]", "sum += V{}", "if constexpr (kSkip) @;"),
    Mutant("activation left out", FILE, "activate(sum, static_cast<V>(slope))", "sum", "out[0] = @;"),
    Mutant("bias of every second channel", "pointwise.h", "t.stride(0)", "2 * t.stride(0)", "{0, @, 0, 0}"),
]
