"""A test that skips in CI for any other reason than a missing GPU is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = """
import pytest

@pytest.mark.skipif(True, reason="no ffmpeg on the PATH")
def test_of_a_program(): pass

def test_of_a_module(): pytest.importorskip("no_such_module")

@pytest.mark.skipif(True, reason="no CUDA GPU")
def test_of_a_gpu(): pass

@pytest.mark.gpu
def test_marked(): pytest.skip("not here")

@pytest.mark.xfail
def test_known(): assert False

def test_fine(): pass
"""


@pytest.mark.parametrize(("value", "failed"), [("true", 2), ("", 0)])
def test_skips(tmp_path, value, failed):
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a GPU\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "CI": value, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    last = done.stdout.strip().splitlines()[-1]
    assert (done.returncode != 0) == bool(failed) and f"{4 - failed} skipped" in last and "1 passed" in last
    assert ("1 failed" in last and "1 error" in last) == bool(failed)
