"""Runs Python under a sanitizer, with the CUDA sources compiled for it: memcheck and racecheck without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from tests.cuda_on_cpu.build import ROOT

OPTIONS = {
    # Python, which nothing was instrumented of, keeps memory to the end.
    "asan": {"ASAN_OPTIONS": "detect_leaks=0"},
    "tsan": {"TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0:history_size=4"},
}


def _library(name: str) -> str:
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def run_python(
    mode: str, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python ARGUMENTS`` in ``mode`` (a key of ``build.FLAGS``) and return what came of it."""
    settings = {"RIRN_EMULATE_MODE": mode, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if mode in OPTIONS:
        # The runtime of a sanitizer must be loaded before anything else; libstdc++ with it, whose `throw` it wraps.
        settings |= OPTIONS[mode] | {"LD_PRELOAD": f"{_library(f'lib{mode}.so')} {_library('libstdc++.so')}"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | settings | dict(env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def run_small_tests(mode: str, *select: str, env: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Run the tests named test_small of all ops in ``mode``. Return whether all passed, and what was printed."""
    arguments = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *(select or ("tests/cuda_on_cpu",))]
    done = run_python(mode, *arguments, "-k", "test_small", env=env)
    text = done.stdout + done.stderr
    return done.returncode == 0 and "passed" in text and "skipped" not in text, text
