"""Seeded bugs in the Triton kernels, each an edit of their source, every one of which the lab must catch.

test_kernels.py runs this file in a process of its own, as it does interpreted.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rirn.kernels.aot import kernel_modules
from tests.kernels import interpreted as checks
from tests.ops.cases import Case

KERNELS = Path(checks.__file__).resolve().parents[2] / "kernels"


@dataclass(frozen=True)
class Mutant:
    """A bug: in ``file``, ``old`` becomes ``new`` (the first time it occurs); ``check`` must fail."""

    what: str
    file: str
    old: str
    new: str
    check: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.file}-{self.what}".replace(" ", "_")


def atb(*case, **more):
    return lambda: checks.test_atb_blend(Case(*case, **more))


def pointwise(op, *case, **more):
    return lambda: checks.test_pointwise(op, Case(*case, **more))


def fac(*case):
    return lambda: checks.test_fac(Case(*case))


def chain():
    checks.test_conv3x3_chain([2, 1], [3, 3], [0.1, 1.0], [False, True], False, False)


def two_inputs():
    checks.test_conv3x3_chain([2, 1, 3, 2], [5], [0.1], [False], False, False)


def phases():
    checks.test_conv3x3_chain([2], [8, 4], [0.0, 1.0], [False, False], True, True)


interleaved = atb(2, 5, 7, 5, "fp32", "channels_last", "11", 2.0)
update, lstm = (pointwise(op, 2, 3, 5, 7) for op in (checks.UPDATE, checks.LSTM))
lstm_interleaved = pointwise(checks.LSTM, 2, 5, 7, 9, "bf16", "channels_last")
taps = fac(1, 2, 4, 5)
partial = pointwise(checks.DTB, 2, 3, 40, 31, logits="11")
MUTANTS = [
    Mutant("dropped mask of channels", "device", "is_pixel & (i_c < channels)", "is_pixel & (i_c >= 0)", interleaved),
    Mutant("tail one too long", "device", "i_p, i_p < pixels", "i_p, i_p <= pixels", interleaved),
    Mutant("no cast to float32", "device", "other=0.0).to(WIDE)", "other=0.0)", atb(2, 3, 5, 7, "bf16")),
    Mutant("sign of tanh", "device", "x < 0, -far, far", "x < 0, far, far", update),
    Mutant("swapped operands", "atb_blend", "w_prev * f_prev + w_cur * f_cur", "w_prev * f_cur + w_cur * f_prev", interleaved),
    Mutant("no max_weight", "atb_blend", "MAX_WEIGHT * grad * s_cur", "grad * s_cur", interleaved),
    Mutant("wrong derivative", "atb_blend", "s_prev * (1 - s_prev)", "s_prev * s_prev", interleaved),
    Mutant("no clamp", "dtb_blend", "tl.where(raw > 1, 1.0, raw)", "raw", partial),
    Mutant("partial sums in one place", "dtb_blend", "p_partial + tl.program_id(0)", "p_partial", partial),
    Mutant("swapped weights", "dtb_blend", "weight * f_cur + (1 - weight)", "(1 - weight) * f_cur + weight", partial),
    Mutant("gate turned round", "gru_update", "(1 - z) * load", "z * load", update),
    Mutant("gradient of the wrong gate", "gru_update", "grad * (1 - z), mask", "grad * z, mask", update),
    Mutant("dropped mask", "gru_update", "mask = at < size", "mask = at < size + 1", update),
    Mutant("gate read twice", "lstm_update", "at_o = at_f + size", "at_o = at_i + size", lstm),
    Mutant("dropped mask of rows", "lstm_update", "(i_r < rows) & (i_s < size)", "i_s < size", lstm_interleaved),
    Mutant("transposed taps", "fac", "(5 * i + j) * step_tap", "(5 * j + i) * step_tap", taps),
    Mutant("clamp off by one", "fac", "0), height - 1) * width", "0), height) * width", taps),
    Mutant("a replica forgotten", "fac", "x == width - 1, 2, 0", "x == width - 1, 1, 0", taps),
    Mutant("rows and columns swapped", "conv3x3", "from_y = y + tap // 3 - 1", "from_y = y + tap % 3 - 1", two_inputs),
    Mutant("no padding on the left", "conv3x3", "& (from_x >= 0) & (from_x < width)", "& (from_x < width)", two_inputs),
    Mutant("dropped mask of input channels", "conv3x3", "inside[:, None] & (c < C_IN)[None, :]", "inside[:, None]", two_inputs),
    Mutant("weights of the first input for all", "conv3x3", "(FIRST + c)[:, None]", "c[:, None]", two_inputs),
    Mutant("taps not turned round", "conv3x3", "(8 - tap if FLIP else tap)", "tap", two_inputs),
    Mutant("all images read the first", "conv3x3", "base = image * height", "base = 0 * image * height", two_inputs),
    Mutant("gate turned round", "conv3x3", "tl.where(gate > 0, total", "tl.where(gate < 0, total", chain),
    Mutant("no skip connection", "conv3x3", "total += tl.load(p_skip + at", "total += 0 * tl.load(p_skip + at", chain),
    Mutant("no bias", "conv3x3", "total += tl.load(p_bias + o", "total += 0 * tl.load(p_bias + o", two_inputs),
    Mutant("no padding in gradients", "conv3x3_weights", "(from_x >= 0) & (from_x < width)", "(from_x < width)", two_inputs),
    Mutant("nine programs write the bias", "conv3x3_weights", "== 0) & (tap == 0)", "== 0) & (tap >= 0)", two_inputs),
    Mutant("phases swapped", "conv3x3", "(c % 4) // 2 * (2 * width) + c % 2", "c % 2 * (2 * width) + (c % 4) // 2", phases),
    Mutant("sums run over", "launch", "mask=i_c < border)", "mask=i_c < columns)", two_inputs),
]  # fmt: skip
SIGNS = {
    "out of bounds": "out of bounds",
    "a race": "race",
    "of p_out twice": "race",
    "cast to float32": "arithmetic on bfloat16",
    "max error": "wrong values",
    "rms error": "wrong values",
}
caught: list[tuple[Mutant, str]] = []
list(kernel_modules())  # all of them at once: a module imported later would keep the functions of a mutant


def load_mutant(mutant: Mutant, folder: Path):
    source = (KERNELS / f"{mutant.file}.py").read_text(encoding="utf-8")
    assert mutant.old in source, "the source has changed: seed the bug anew"
    path = folder / f"{mutant.file}.py"
    path.write_text(source.replace(mutant.old, mutant.new, 1), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"mutant_{mutant.file}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_is_caught(mutant, tmp_path, monkeypatch):
    original = importlib.import_module(f"rirn.kernels.{mutant.file}")
    broken = load_mutant(mutant, tmp_path)
    # Wherever a module of the kernels holds a function of the original, it gets that of the mutant.
    own = {
        id(value): name
        for name, value in vars(original).items()
        if getattr(getattr(value, "fn", value), "__module__", None) == original.__name__
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("rirn.kernels"):
            for key, value in list(vars(module).items()):
                if id(value) in own:
                    monkeypatch.setattr(module, key, getattr(broken, own[id(value)]))
    with pytest.raises(Exception) as error:
        mutant.check()
    by = next((what for word, what in SIGNS.items() if word in str(error.value)), None)
    assert by is not None, f"it fails, but not for its bug: {error.value!r}"
    caught.append((mutant, by))


def test_unchanged_kernels_pass():
    for check in {mutant.check for mutant in MUTANTS}:
        check()


def test_print_the_table():
    print()
    for mutant, by in caught:
        print(f"{mutant.file:12} {mutant.what:36} caught: {by}")
