"""Seeded bugs of atb_blend; those of its loop stand with the other blend."""

from tests.cuda_on_cpu.mutants import Mutant

FILE = "atb_blend.cu"
MUTANTS = [
    Mutant(
        "operands swapped",
        "atb_blend.cu",
        'run_pointwise("atb_blend", AtbBlendOp(max_weight), out, {f_prev, f_cur, logit_prev, logit_cur}, {out});',
        'run_pointwise("atb_blend", AtbBlendOp(max_weight), out, {f_cur, f_prev, logit_prev, logit_cur}, {out});',
    ),
    Mutant(
        "the weight on the wrong side",
        FILE,
        "sigmoid(logit_prev) * f_prev + static_cast<V>(max_weight) * sigmoid(logit_cur) * f_cur",
        "static_cast<V>(max_weight) * sigmoid(logit_prev) * f_prev + sigmoid(logit_cur) * f_cur",
        "out[0] = @;",
    ),
    Mutant("a gate's slope forgotten", FILE, "out[0] * (1 - gate_prev)", "out[0]", "out[2] = @ * f_prev;"),
    Mutant(
        "an input counts as not read",
        FILE,
        "{0b01001, 0b10001, 0b01011, 0b10101}",
        "{0b01001, 0b10001, 0b01001, 0b10101}",
        constant=True,
    ),
    Mutant("one gate is not summed", FILE, "kSummable = 0b1100", "kSummable = 0b0100", constant=True),
]
