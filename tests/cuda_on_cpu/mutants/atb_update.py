"""Seeded bugs of the last kernel of atb_update and of what it is called with; its convolutions are those of conv3x3_chain."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "atb_update.cuh"
ALSO = ("conv3x3_chain",)
BARRIER = "__syncthreads();"
MUTANTS = [
    Mutant(
        "region filled while it is read",
        FILE,
        f"if (branch) {BARRIER}",
        "",
        "@  // the region of the branch before has been read",
    ),
    Mutant(
        "features staged while the region is read",
        FILE,
        BARRIER,
        "",
        "@  // the features take the place of the region",
    ),
    Mutant("no barrier before the features are read", FILE, BARRIER, "", "first, kN);\n  @\n#pragma unroll"),
    Mutant("no barrier before the result is read", FILE, BARRIER, "", "@\n  const Region<T> tile"),
    Mutant(
        "features of the first outputs in every block",
        FILE,
        "blockIdx.y * 8 * kN",
        "0",
        "const int first = @, outputs",
    ),
    Mutant(
        "the other features", FILE, "a.logits.v[0].skip", "a.logits.v[1].skip", "fill_region(f_prev, slots, @"
    ),
    Mutant("bias past the last output", FILE, "channel < outputs", "true", "= @ ? Scalar<T>"),
    Mutant("weights of the gates exchanged", FILE, "a.decay", "a.max_weight", "const float gate_prev = @ *"),
    Mutant("a row of pixels read twice", FILE, "half * 8 + lane / 4", "half / 2 * 16 + lane / 4"),
    Mutant(
        "shared memory for the region alone",
        FILE,
        "std::max(region_bytes(conv.weight.inputs), features)",
        "region_bytes(conv.weight.inputs)",
    ),
    Mutant(
        "joint convolution of one image", FILE, "append(inputs, job.f_prev);", "append(inputs, job.f_cur);"
    ),
    Mutant(
        "both branches from one half",
        FILE,
        "layer(kCur1, halves[1], inside[1], job.slope)",
        "layer(kCur1, halves[0], inside[1], job.slope)",
    ),
    Mutant("the same layer in every z", "conv3x3_mma.cuh", "pair.v[blockIdx.z]", "pair.v[0]"),
]
