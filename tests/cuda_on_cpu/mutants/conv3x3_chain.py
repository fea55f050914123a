"""Seeded bugs of the convolutions that conv3x3_chain runs on."""

from tests.cuda_on_cpu.mutants import Mutant

CONV = "conv3x3.cuh"
CHAIN = "conv3x3_chain.cuh"
GRADIENT = "conv3x3_weight_gradient.cuh"
MUTANTS = [
    Mutant("no barrier after the region is filled", CONV, "kMmaPitch);\n    __syncthreads();", "kMmaPitch);"),
    Mutant(
        "region filled while it is read",
        CONV,
        "    if (first) __syncthreads();  // the channels before have been read\n",
        "",
    ),
    Mutant(
        "sums staged while the region is read",
        CONV,
        "  __syncthreads();  // the sums take the place of the region\n",
        "",
    ),
    Mutant(
        "tile without its left rim",
        CONV,
        "place.y - 1, place.x - 1, kMmaTileH + 2",
        "place.y - 1, place.x, kMmaTileH + 2",
    ),
    Mutant("taps transposed", CONV, "(tap / 3 * pitch + tap % 3) * 16", "(tap % 3 * pitch + tap / 3) * 16"),
    Mutant(
        "rows of a fragment swapped",
        CONV,
        "{n % 2 ? pair.z : pair.x, n % 2 ? pair.w : pair.y}",
        "{n % 2 ? pair.w : pair.y, n % 2 ? pair.z : pair.x}",
    ),
    Mutant(
        "last output not packed",
        CONV,
        "out < job.weight.outputs && in <",
        "out < job.weight.outputs - 1 && in <",
    ),
    Mutant(
        "channels past the last one not zero",
        CONV,
        "region[slots.at(i / rest, c / 8) * 8 + c % 8] = Scalar<T>::narrow(0.f);",
        "",
    ),
    Mutant("result beyond the image", CONV, "if (y >= a.h || x >= a.w) continue;", "if (y >= a.h) continue;"),
    Mutant(
        "inputs filled while they are read",
        CONV,
        "    if (first) __syncthreads();  // the inputs before have been read\n",
        "",
    ),
    Mutant(
        "padding not looked at",
        CONV,
        "y >= 0 && y < a.h && x >= 0 && x < a.w ? image.data",
        "y >= 0 && y < a.h && x >= 0 ? image.data",
    ),
    Mutant(
        "weights not turned round",
        CONV,
        "return {data + 2 * y + 2 * x, i, o, -y, -x, inputs, outputs};",
        "return {data, i, o, y, x, inputs, outputs};",
    ),
    Mutant("skip connection from the layer itself", CHAIN, "a.skip = images[l - 1];", "a.skip = images[l];"),
    Mutant("gradient of the skip connection lost", CHAIN, "a.skip = only(of[l + 2]);", ";"),
    Mutant(
        "mask of the wrong slope",
        CHAIN,
        "a.gate_slope = chain.layers[l - 1].slope;",
        "a.gate_slope = chain.layers[l].slope;",
    ),
    Mutant(
        "operand of the gradient not transposed", GRADIENT, "ldmatrix<2, true>(inputs", "ldmatrix<2>(inputs"
    ),
    Mutant(
        "gradients beyond the last input",
        GRADIENT,
        "if (out >= a.outputs || in >= a.inputs) continue;",
        "if (out >= a.outputs) continue;",
    ),
    Mutant(
        "rows of the bias added up without a barrier",
        GRADIENT,
        "of_rows[threadIdx.x] = bias;\n  __syncthreads();",
        "of_rows[threadIdx.x] = bias;",
    ),
    Mutant(
        "a part left out",
        GRADIENT,
        "for (int part = 0; part < a.parts; ++part) sum += a.partial",
        "for (int part = 1; part < a.parts; ++part) sum += a.partial",
    ),
]
