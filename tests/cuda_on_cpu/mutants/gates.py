"""Seeded bugs of gru_reset, gru_update and lstm_update."""

from tests.cuda_on_cpu.mutants import Mutant

MUTANTS = [
    Mutant(
        "gru_update: gates swapped",
        "formulas.h",
        "(1.f - z) * hidden + z * hyper",
        "z * hidden + (1.f - z) * hyper",
    ),
    Mutant(
        "lstm_update: old cell lost",
        "formulas.h",
        "const V new_cell = f * cell + i * g;",
        "const V new_cell = i * g;",
    ),
    Mutant(
        "lstm_update: wrong logit",
        "formulas.h",
        "f = sigmoid(in[1]), o = sigmoid(in[2])",
        "f = sigmoid(in[2]), o = sigmoid(in[1])",
    ),
]
