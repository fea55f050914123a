"""Seeded bugs of gru_update and lstm_update; those of their loop stand with the blends."""

from tests.cuda_on_cpu.mutants import Mutant

MUTANTS = [
    Mutant(
        "operands swapped",
        "gates.cu",
        'run_pointwise("gru_update", GruUpdateOp{}, out, {hidden, logit_z, logit_n}, {out});',
        'run_pointwise("gru_update", GruUpdateOp{}, out, {hidden, logit_n, logit_z}, {out});',
    ),
    Mutant(
        "outputs swapped",
        "gates.cu",
        'run_pointwise("lstm_update", LstmUpdateOp{}, new_cell, inputs, {new_hidden, new_cell});',
        'run_pointwise("lstm_update", LstmUpdateOp{}, new_cell, inputs, {new_cell, new_hidden});',
    ),
    Mutant(
        "an input counts as not read",
        "gates.cu",
        "{0b0101, 0b1111, 0b1101}",
        "{0b0001, 0b1111, 0b1101}",
        constant=True,
    ),
    Mutant(
        "the last output has no gate's place",
        "gates.cu",
        "outputs.push_back(out[1]);",
        "outputs.insert(outputs.begin(), out[1]);",
    ),
]
