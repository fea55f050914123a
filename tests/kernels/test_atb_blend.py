"""The Triton kernels without a GPU: values in Triton's interpreter, machine code from its ahead-of-time
compiler."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rirn.kernels
from rirn.ops import why_not

pytestmark = pytest.mark.skipif(rirn.kernels.why_not() is not None, reason=str(rirn.kernels.why_not()))
ROOT = Path(__file__).resolve().parents[2]


def test_values_in_the_interpreter():
    """Run the tests of the op itself with Triton's interpreter, in a process of its own: the switch is read
    at import.

    gradcheck launches hundreds of programs, too many for the interpreter.
    """
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/ops/test_atb_blend.py"]
    done = subprocess.run(
        [*tests, "-k", "triton and not gradcheck"],
        cwd=ROOT,
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 40
    assert "skipped" not in done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Every variant for sm_80 and sm_90, compiled into a cache of its own, so that nothing stale passes."""
    if rirn.kernels.interpreted():
        pytest.skip("TRITON_INTERPRET=1 replaces the compiler")
    from rirn.kernels.aot import compile_all

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        return list(compile_all((80, 90)))


def test_every_variant_compiles_for_sm_80_and_sm_90(compiled):
    assert len(compiled) == 2 * (2 * 3 + 2) * 2, "archs x (dtypes x forms) x (forward, backward)"
    assert all(c.asm["cubin"] for c in compiled)
    assert all(f".target sm_{c.arch}" in c.asm["ptx"] for c in compiled)


def test_planes_are_read_128_bits_at_a_time(compiled):
    for c in compiled:
        if "planar" in c.variant.name:
            loads = re.findall(r"ld\.global\S*", c.asm["ptx"])
            assert loads and all(".v4.b32" in load or ".v2.b64" in load for load in loads), (
                c.variant.name,
                loads,
            )


def test_no_spills_and_no_shared_memory_for_rows(compiled, tmp_path):
    """The assembler decides about registers, so its own tool is asked, on the machine code."""
    import triton

    cubin = tmp_path / "kernel.cubin"
    for c in compiled:
        cubin.write_bytes(c.asm["cubin"])
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(cubin)]
        usage = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "STACK:0 " in usage.stdout + usage.stderr, c.variant.name
        assert "LOCAL:0" in usage.stdout + usage.stderr, c.variant.name
        if "channel-gates" in c.variant.name:
            assert c.shared == 0, c.variant.name


def test_offsets_are_64_bit(compiled):
    """A clip passes two billion elements; the first product of an offset must be wide already."""
    for c in compiled:
        first = c.asm["ttir"].split("tt.load")[0]
        assert "arith.extsi" in first and "i64" in first, c.variant.name


def test_a_gpu_less_machine_says_why():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert why_not("triton", "atb_blend", "cuda:0")


def test_the_package_imports_without_triton():
    program = """if True:
        import sys
        sys.modules["triton"] = None
        import rirn.kernels.atb_blend
        from rirn.ops import why_not
        print(why_not("triton", "atb_blend", "cuda:0"))
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install triton" in done.stdout
