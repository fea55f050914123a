"""The Triton kernels without a GPU: values, bounds, races and bytes in the lab, and seeded bugs that it must catch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rirn.kernels
from rirn.ops import why_not

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
        import importlib
        import rirn.kernels
        for op in rirn.kernels.OPS:
            importlib.import_module(f"rirn.kernels.{op}")
        from rirn.ops import why_not
        print(why_not("triton", "atb_blend", "cuda:0"))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install triton" in done.stdout
