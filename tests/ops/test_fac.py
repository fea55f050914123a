"""fac on every fused backend against the reference in float64, and the memory it takes."""

import subprocess
import sys

import pytest
import torch

from rirn.ops import fac, why_not
from tests.ops import contract
from tests.ops.calls import reference
from tests.ops.cases import Case
from tests.tolerances import NAMES

FAC = contract.of("fac")
CASES = [
    *(
        Case(2, 3, 7, 5, dtype, layout)
        for dtype in NAMES.values()
        for layout in ("contiguous", "channels_last")
    ),
    Case(1, 1, 1, 1),
    Case(1, 1, 1, 2),
    Case(1, 2, 2, 1, layout="channels_last"),
    Case(1, 17, 1, 1, "bf16", "channels_last"),
    Case(1, 2, 1, 19),
    Case(1, 2, 3, 16),
    Case(1, 2, 4, 33),
    Case(1, 2, 19, 1, "fp16"),
    Case(0, 4, 3, 3),
    Case(2, 3, 11, 17, "fp32", "sliced"),
    Case(2, 3, 11, 17, "fp16", "strided"),
    Case(2, 3, 11, 17, "fp32", "strided"),
    Case(2, 3, 11, 17, "fp64", "transposed"),
    Case(2, 3, 11, 17, "fp32", "expanded"),
    Case(1, 37, 3, 13, "fp32", "channels_last"),
    Case(1, 3, 13, 37, "bf16", "sliced"),
]
LITTLE = [Case(2, 3, 7, 19), Case(1, 19, 4, 5, "bf16", "channels_last"), Case(1, 2, 3, 17, "fp16")]
cases = pytest.mark.parametrize("case", CASES, ids=str)
little = pytest.mark.parametrize("case", LITTLE, ids=str)


@cases
def test_against_reference(case, fused):
    contract.check_against_reference(FAC, case, *fused("fac"))


@pytest.mark.parametrize("layouts", [("channels_last", "contiguous"), ("contiguous", "channels_last")])
def test_features_and_kernels_of_different_layouts(layouts, fused):
    def mixed(case, device="cpu"):
        made = [FAC.make(Case(2, 5, 6, 7, layout=layout), device) for layout in layouts]
        return [made[0][0], made[1][1]]

    op = contract.Op(FAC.name, fac, reference.fac, mixed, FAC.inputs, 0)
    contract.check_against_reference(op, Case(2, 5, 6, 7), *fused("fac"))


@little
@pytest.mark.parametrize("layout", ["expanded", "transposed"])
def test_gradient_from_above_in_any_layout(case, layout, fused):
    contract.check_against_reference(FAC, case, *fused("fac"), layout)


@little
@pytest.mark.parametrize("isa", contract.isas())
def test_every_variant(isa, case, monkeypatch):
    monkeypatch.setenv("RIRN_CPU_ISA", isa)
    contract.check_against_reference(FAC, case, "cpu", "cpu")


def test_single_gradients(fused):
    contract.check_single_gradients(FAC, Case(2, 4, 5, 3), *fused("fac"))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradcheck(layout, fused):
    backend, device = fused("fac")
    inputs = FAC.make(Case(1, 2, 3, 2, "fp64", layout), device)
    assert torch.autograd.gradcheck(lambda *t: fac(*t, backend=backend), inputs)


@pytest.mark.parametrize("case", [Case(2, 8, 13, 21), Case(2, 8, 13, 21, "bf16", "channels_last")], ids=str)
def test_repeats_bit_for_bit_on_any_number_of_threads(case, fused, threads):
    contract.check_repeats(FAC, case, *fused("fac"), threads)


def test_saves_only_its_inputs(fused):
    contract.check_saves_only_its_inputs(FAC, Case(2, 4, 5, 3), *fused("fac"))


def test_what_is_not_finite_spreads_as_in_the_reference(fused):
    contract.check_nan(FAC, Case(1, 2, 4, 7), *fused("fac"))


# The peak of resident memory over what inputs and results take, in units of the kernels: first of the forward pass alone, then
# of both passes. A small call first brings in what is loaded once.
MEASURE = """if True:
    import sys
    import torch
    from rirn.ops import fac

    backend, layout = sys.argv[1:]
    torch.set_num_threads(1)

    def make(c, side):
        make_one = lambda k: torch.empty(
            1, k, side, side, memory_format=getattr(torch, layout), requires_grad=True
        )
        pair = [make_one(c), make_one(25 * c)]
        with torch.no_grad():
            for t in pair:
                t.fill_(0.5)
        return pair

    def kilobytes(name):
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(name))

    def resident():
        return kilobytes("VmRSS") * 1024

    def peak():
        return kilobytes("VmHWM") * 1024

    pair = make(2, 4)
    torch.autograd.grad(fac(*pair, backend=backend), pair, torch.ones_like(pair[0]))
    features, kernels = make(128, 64)
    grad = torch.ones_like(features)
    before = resident()
    assert peak() - before < 2**20, "memory had been higher before: the peak would not be seen"
    out = fac(features, kernels, backend=backend)
    print((peak() - before - out.nbytes) / kernels.nbytes)
    found = torch.autograd.grad(out, (features, kernels), grad)
    print((peak() - before - out.nbytes - features.nbytes - kernels.nbytes) / kernels.nbytes)
"""


def extra_memory(backend, layout):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, backend, layout], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("layout", ["contiguous_format", "channels_last"])
def test_no_unfolded_copy_is_made(layout):
    """128 channels, 64x64: the kernels take 52 MB, and next to nothing comes on top; the reference shows that
    the measurement sees what is made."""
    if why_not("cpu", "fac"):
        pytest.skip(why_not("cpu", "fac"))
    forward, both = extra_memory("cpu", layout)
    assert -0.01 < forward < 0.05
    assert -0.01 < both < 0.05
    forward, both = extra_memory("reference", layout)
    assert forward > 0.05 and both > 0.5
