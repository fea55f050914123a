"""The kernels of all ops under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cuda_on_cpu.build import FOLDER, SMALL_DTYPES, SOURCES, build, why_not
from tests.cuda_on_cpu.sanitizers import OPTIONS, run_python, run_small_tests

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

SELF_TEST = """
import sys, torch
from tests.cuda_on_cpu.build import emulator
emulator()
for which in map(int, sys.argv[1:]):
    torch.ops.cuda_on_cpu_self_test.run(which, torch.ones(63), torch.ones(1), torch.zeros(64))
"""


@pytest.fixture(scope="module", params=OPTIONS)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """A sanitizer; the module that is compiled for it is the one that the processes of this test load."""
    module = build(SOURCES, FOLDER, request.param, dtypes=SMALL_DTYPES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIRN_EMULATE_MODULE", str(module))
        yield request.param


def test_no_kernel_strays_or_races(mode):
    passed, text = run_small_tests(mode)
    assert passed, text[-6000:]


def test_what_is_wrong_is_reported(mode):
    if mode == "asan":
        done = run_python(mode, "-c", SELF_TEST, "11")
        assert "AddressSanitizer: heap-buffer-overflow" in done.stderr
        assert "out_of_bounds" in done.stderr
        return
    done = run_python(mode, "-c", SELF_TEST, "1", "2", "3", "18", env={"TSAN_OPTIONS": "halt_on_error=0"})
    assert "ThreadSanitizer: data race" in done.stderr
    for kernel in ("missing_barrier", "write_after_read", "write_after_others_read", "two_blocks_one_place"):
        assert kernel in done.stderr, kernel


def test_what_is_right_is_not_reported(mode):
    done = run_python(mode, "-c", SELF_TEST, "0", "12", "15")
    assert done.returncode == 0, done.stderr[-4000:]
