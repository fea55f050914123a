"""The Triton kernels without a GPU: values, bounds and races in the lab, and seeded bugs that it must catch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import rirn.kernels
from rirn.ops import why_not
from rirn.ops._register import define_triton
from rirn.ops.spec import OPS

ROOT = Path(__file__).resolve().parents[2]
needs_triton = pytest.mark.skipif(rirn.kernels.why_not() is not None, reason=str(rirn.kernels.why_not()))


def run_in_the_lab(*selection):
    """Run a selection of tests with Triton's interpreter, in a process of its own: the switch is read at import.

    Returns the number of tests that passed, of which all must, and what they printed.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *selection]
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return int(re.search(r"(\d+) passed", done.stdout)[1]), done.stdout


@needs_triton
def test_in_the_lab():
    passed, _ = run_in_the_lab("tests/kernels/interpreted.py", "-m", "not slow")
    assert passed > 20


@needs_triton
@pytest.mark.slow
def test_in_the_lab_with_more_cases():
    passed, _ = run_in_the_lab("tests/kernels/interpreted.py", "-m", "slow")
    assert passed > 20


@needs_triton
@pytest.mark.slow
def test_the_lab_catches_every_mutant():
    _, printed = run_in_the_lab("tests/kernels/mutants.py")
    print(printed)


def test_a_gpu_less_machine_says_why():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert why_not("triton", "atb_blend", "cuda:0")


def test_the_package_imports_without_triton():
    program = """if True:
        import sys
        sys.modules["triton"] = None
        from rirn.kernels import aot
        assert list(aot.kernel_modules())
        from rirn.ops import why_not
        print(why_not("triton", "atb_blend", "cuda:0"))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install triton" in done.stdout


@needs_triton
def test_fake_tensors_of_a_gpu_flow_through():
    """Tracing, and with it torch.compile, needs neither a GPU nor a launch."""
    for op in OPS:
        define_triton(op)
    ops = torch.ops.rirn
    with FakeTensorMode():
        state = torch.empty(1, 4, 6, 8, device="cuda")
        wide, narrow = torch.empty(8, 8, 3, 3, device="cuda"), torch.empty(4, 8, 3, 3, device="cuda")
        weights = [*[wide] * 5, narrow]
        biases = [torch.empty(len(weight), device="cuda") for weight in weights]
        out = ops.triton_irm_update(state, state, weights, biases)
        assert (out.shape, out.device.type) == (state.shape, "cuda")
        grads = ops.triton_irm_update_backward(out, state, state, weights, biases, 0b101)
        assert [grad.numel() > 0 for grad in grads] == [i in (0, 2) for i in range(14)]
        found = ops.triton_lstm_update(torch.empty(1, 16, 6, 8, device="cuda"), state)
        assert [t.shape for t in found] == [state.shape] * 2
        shuffled = ops.triton_conv3x3_chain(
            [state], [torch.empty(4, 4, 3, 3, device="cuda")], biases[5:], [0.1], [0], False, True
        )
        assert shuffled.shape == (1, 1, 12, 16)
