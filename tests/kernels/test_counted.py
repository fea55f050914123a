"""What the cost model says that the Triton kernels move, against what they touch in the interpreter."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rirn.kernels
from rirn.ops.backends import OPS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(rirn.kernels.why_not() is not None, reason=str(rirn.kernels.why_not()))
@pytest.mark.skipif(
    importlib.util.find_spec("tests.kernels.lab") is None, reason="the interpreter here counts no bytes"
)
def test_formulas_of_the_cost_model():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/kernels/counted.py"]
    env = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) == 2 * (len(OPS) + 2)
