"""Seeded bugs of atb_blend."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "atb_blend.cuh"
FORWARD_TAIL = "i < n; i += step)\n    t.out[i] = blend_one<T>(t.f_prev[i]"
MUTANTS = [
    Mutant("tail one too short", FILE, FORWARD_TAIL, FORWARD_TAIL.replace("i < n", "i < n - 1")),
    Mutant("tail one too far", FILE, FORWARD_TAIL, FORWARD_TAIL.replace("i < n", "i <= n")),
    Mutant(
        "packs one too far",
        FILE,
        "i < packs; i += step) {\n    const P fp",
        "i <= packs; i += step) {\n    const P fp",
    ),
    Mutant("wrong lane writes the sum", FILE, "if (lane == 0) *grad_logit", "if (lane == kLanes / 2) *grad_logit"),
    Mutant("half of the lanes in the sum", FILE, "offset = kLanes / 2; offset;", "offset = kLanes / 2; offset > 1;"),
    Mutant(
        "lanes that have no pixel leave before the shuffle",
        FILE,
        "  if (!shared || !grad_logit) return;",
        "  if (!shared || !grad_logit || lane >= channels) return;",
    ),
    Mutant("operands swapped", FILE, "fc.v[k], lp.v[k], lc.v[k], max_weight)", "fc.v[k], lc.v[k], lp.v[k], max_weight)"),
    Mutant("gradient written though not wanted", FILE, "if (grad_f) grad_f[c * grad_f_c]", "grad_f[c * grad_f_c]"),
    Mutant("stride of a shared logit not 0", "common.cuh", "order[k] == 1 ? channel_stride(t) : ", ""),
    Mutant("alignment not looked at", "common.cuh", "reinterpret_cast<uintptr_t>(t.data) % kAccess == 0", "true"),
    Mutant(
        "two blocks at the same pixels",
        FILE,
        "int64_t i = (int64_t)blockIdx.x * (kThreads / kLanes) + threadIdx.x / kLanes",
        "int64_t i = (int64_t)blockIdx.x / 2 * (kThreads / kLanes) + threadIdx.x / kLanes",
    ),
]
