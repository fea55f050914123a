"""Runs Python under a sanitizer, with the CUDA sources compiled for it: memcheck and racecheck without a GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache

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


# pytest in children of one process that has imported torch and rirn, which takes longer than the small tests of an op. A line
# of input is the name of a file for the output, a limit of CPU time in seconds (a mutant may loop forever), settings of the
# environment, "--", and arguments.
_FORKS = """
import os, resource, sys
import pytest, tests.ops.contract, tests.ops.rounded
for line in sys.stdin:
    output, seconds, *arguments = line.rstrip("\\n").split("\\t")
    count = arguments.index("--")
    os.environ.update(a.split("=", 1) for a in arguments[:count])
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
        file = os.open(output, os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os._exit(pytest.main(arguments[count + 1 :]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
CPU_SECONDS = 120


@cache
def _forks() -> subprocess.Popen[str]:
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    command = [sys.executable, "-c", _FORKS]
    return subprocess.Popen(
        command, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _run_fork(arguments: list[str], env: Mapping[str, str]) -> tuple[bool, str]:
    """Run pytest without a sanitizer. Return whether all passed, and what was printed."""
    forks = _forks()
    with tempfile.NamedTemporaryFile("r", errors="replace") as output:
        settings = [f"{key}={value}" for key, value in env.items()]
        forks.stdin.write("\t".join([output.name, str(CPU_SECONDS), *settings, "--", *arguments]) + "\n")
        forks.stdin.flush()
        code = int(forks.stdout.readline())
        text = output.read()
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        text += f"\nno end after {CPU_SECONDS} seconds of CPU time"
    return code == 0, text


def run_small_tests(mode: str, *select: str, env: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Run the tests named test_small of all ops in ``mode``. Return whether all passed, and what was printed."""
    arguments = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *(select or ("tests/cuda_on_cpu",)),
        "-k",
        "test_small",
    ]
    if mode == "plain":
        passed, text = _run_fork(arguments, env or {})
    else:
        # -s: what pytest captures is lost when the sanitizer ends the process.
        done = run_python(mode, "-m", "pytest", "-s", *arguments, env=env)
        passed, text = done.returncode == 0, done.stdout + done.stderr
    return passed and "passed" in text and "skipped" not in text, text
