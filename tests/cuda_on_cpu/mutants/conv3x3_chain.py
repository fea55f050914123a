"""Seeded bugs of the convolutions that conv3x3_chain runs on."""

from tests.cuda_on_cpu.mutants import Mutant

ARGS = "conv3x3_args.cuh"
MMA = "conv3x3_mma.cuh"
FFMA = "conv3x3_ffma.cuh"
CHAIN = "conv3x3_chain.cuh"
GRADIENT = "conv3x3_weight_gradient.cuh"
BARRIER = "__syncthreads();"
ALSO = ("packed_weights",)
MUTANTS = [
    Mutant("no barrier after the region is filled", MMA, BARRIER, "", "kMmaPitch);\n    @"),
    Mutant(
        "region filled while it is read",
        MMA,
        f"if (first) {BARRIER}",
        "",
        "@  // the channels before have been read",
    ),
    Mutant(
        "sums staged while the region is read",
        MMA,
        BARRIER,
        "",
        "@  // the sums take the place of the region",
    ),
    Mutant("tile without its left rim", MMA, "place.x - 1", "place.x", "place.y - 1, @, kMmaTileH + 2"),
    Mutant("taps transposed", MMA, "tap / 3 * pitch + tap % 3", "tap % 3 * pitch + tap / 3", "(@) * 16"),
    Mutant(
        "a row of a fragment read twice", MMA, "n % 2 ? pair.z : pair.x", "n % 2 ? pair.w : pair.y", "{@,"
    ),
    Mutant(
        "last output not packed",
        MMA,
        "out < job.weight.outputs",
        "out < job.weight.outputs - 1",
        "@ && in <",
    ),
    Mutant(
        "channels past the last one not zero",
        MMA,
        "region[slots.at(i / rest, c / 8) * 8 + c % 8] = Scalar<T>::narrow(0.f);",
        "",
    ),
    Mutant("result beyond the image", MMA, "y >= a.h || x >= a.w", "y >= a.h", "if (@) continue;"),
    Mutant(
        "inputs filled while they are read",
        FFMA,
        f"if (first) {BARRIER}",
        "",
        "@  // the inputs before have been read",
    ),
    Mutant(
        "padding not looked at",
        FFMA,
        "y >= 0 && y < a.h && x >= 0 && x < a.w",
        "y >= 0 && y < a.h && x >= 0",
        "@ ? image.data",
    ),
    Mutant(
        "weights not turned round",
        ARGS,
        "return {data + 2 * y + 2 * x, i, o, -y, -x, inputs, outputs};",
        "return {data, i, o, y, x, inputs, outputs};",
    ),
    Mutant(
        "skip connection from the layer itself",
        CHAIN,
        "a.skip = images[l - 1];",
        "a.skip = images[l];",
    ),
    Mutant("kept weights never brought in order", CHAIN, "!entry.packed", "false", "workspace_.memory && @)"),
    Mutant("kept weights of another address", CHAIN, "w.data", "nullptr", "{{device, stream.handle}, {@,"),
    Mutant("gradient of the skip connection lost", CHAIN, "a.skip = only(of[l + 2]);", ""),
    Mutant(
        "mask of the wrong slope",
        CHAIN,
        "a.gate_slope = chain.layers[l - 1].slope;",
        "a.gate_slope = chain.layers[l].slope;",
    ),
    Mutant(
        "operand of the gradient not transposed",
        GRADIENT,
        "ldmatrix<2, true>(inputs, x + slots.at((row + tap / 3) * kWidth + tap % 3 + lane % 16, in_group) * 8);",
        "ldmatrix<2>(inputs, x + slots.at((row + tap / 3) * kWidth + tap % 3 + lane % 16, in_group) * 8);",
    ),
    Mutant(
        "gradients beyond the last input",
        GRADIENT,
        "out >= a.outputs || in >= a.inputs",
        "out >= a.outputs",
        "if (@) continue;",
    ),
    Mutant(
        "rows of the bias added up without a barrier",
        GRADIENT,
        BARRIER,
        "",
        "of_rows[threadIdx.x] = bias;\n  @",
    ),
    Mutant(
        "a part left out", GRADIENT, "0", "1", "for (int part = @; part < a.parts; ++part) sum += a.partial"
    ),
]
