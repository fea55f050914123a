"""Wheels and sdists: built from a copy of the sources, installed into a clean environment, used outside the checkout."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.installs import ROOT, Environment, build_sdist, build_wheel


def top_level(wheel: Path) -> set[str]:
    return {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}


def record(wheel: Path) -> dict:
    return json.loads(zipfile.ZipFile(wheel).read("rirn/_build_info.json"))


@pytest.fixture(scope="module")
def pure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pure")
    wheel = build_wheel(folder, RIRN_BUILD_CPU="0")
    env = Environment(folder / "env", without=["triton"])
    env.install("-q", "--no-deps", "--no-index", wheel)
    return wheel, env


def test_pure_wheel_contents(pure):
    wheel, _ = pure
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert top_level(wheel) == {"rirn", next(n for n in top_level(wheel) if n.endswith(".dist-info"))}
    assert {
        "rirn/py.typed",
        "rirn/ops/spec.py",
        "rirn/kernels/__init__.py",
        "rirn/bench/__init__.py",
        "rirn/training/configs/gopro.yaml",
        "rirn/compare/report.html",
    } <= set(names)
    shipped = {f"rirn/weights/{path.name}" for path in (ROOT / "rirn" / "weights").glob("*.safetensors")}
    assert shipped <= set(names)
    assert not [name for name in names if name.endswith((".so", ".cpp", ".cu"))]
    assert record(wheel)["cpu"] is False
    assert "RIRN_BUILD_CPU=0" in record(wheel)["reason"]


def test_pure_wheel_runs_on_the_reference(pure):
    _, env = pure
    code = """
import torch, rirn, rirn.kernels, rirn.bench
from rirn.ops import atb_blend
a, b, c, d = torch.randn(4, 2, 3, 5, 7)
torch.testing.assert_close(atb_blend(a, b, c, d), c.sigmoid() * a + d.sigmoid() * b)
print(rirn.__file__, rirn.kernels.__file__, rirn.bench.__file__, sep="\\n")
"""
    for place in env.run(code).splitlines():
        assert Path(place).is_relative_to(env.site)


@pytest.mark.slow
def test_the_plugin_of_the_page_runs_from_the_wheel(pure):
    """A network and a loss of one's own, trained, scored and used by the commands of docs/extending.md, far from a checkout."""
    _, env = pure
    printed = env.run_tests("-p", "no:cacheprovider", "tests/test_plugins.py")
    assert " passed" in printed and "skipped" not in printed and "failed" not in printed


def test_command_is_installed_and_explains_what_is_missing(pure):
    """Without the library, without Triton and without a GPU, each in one sentence."""
    _, env = pure
    run = [env.folder / "bin" / "rirn", "doctor", "--json"]
    found = json.loads(subprocess.run(run, cwd=env.folder, capture_output=True, text=True, check=True).stdout)
    assert found["install"]["folder"] == str(env.site / "rirn")
    assert found["versions"]["triton"] is None
    assert "RIRN_BUILD_CPU=0 forbids compiling): reinstall to compile it" in found["library"]["why_not"]
    answers = found["backends"]["atb_blend"]["cuda" if "cuda" in found["backends"]["atb_blend"] else "cuda:0"]
    assert "triton" in answers["triton"].lower() and "\n" not in answers["triton"]


def test_compiler_free_machine_gets_a_pure_wheel(tmp_path):
    """No C++ compiler: the build succeeds, without importing torch, and says why nothing was compiled."""
    wheel = build_wheel(tmp_path / "wheel", PATH=str(tmp_path), CXX="")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "no C++ compiler" in record(wheel)["reason"]


def test_sdist_builds_from_itself(tmp_path):
    """The sdist has every source, nothing built, and gives the wheel that the checkout gives."""
    (tmp_path / "sdist").mkdir()
    sdist = build_sdist(tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = [
        path.relative_to(ROOT)
        for room in ("csrc", "kernels", "bench")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {str(path) for path in sources} <= held
    assert not [name for name in held if name.endswith((".so", ".pyc", "_build_info.json"))]
    (tmp_path / "wheels").mkdir()
    wheel = build_wheel(tmp_path / "wheels", sdist, RIRN_BUILD_CPU="0")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"rirn/kernels/fac.py", "rirn/bench/__init__.py", "rirn/compare/report.html"} <= names


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    wheel = build_wheel(folder, RIRN_BUILD_CUDA="0", RIRN_BUILD_CPU="1")
    env = Environment(folder / "env")
    env.install("-q", "--no-deps", "--no-index", wheel)
    return wheel, env


@pytest.mark.slow
def test_compiled_wheel_contents(compiled):
    wheel, _ = compiled
    assert "-cp310-abi3-" in wheel.name
    assert top_level(wheel) == {"rirn", next(n for n in top_level(wheel) if n.endswith(".dist-info"))}
    binaries = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert binaries == ["rirn/_C.abi3.so"]
    assert record(wheel) | {"cpu": True, "cuda": False} == record(wheel)


@pytest.mark.slow
def test_wide_instructions_stay_in_their_variant(compiled):
    """A function that the linker shares between variants would bring AVX to processors without it."""
    wheel, _ = compiled
    for variant in ("avx2", "avx512", "avx512_bf16"):
        (objects,) = (wheel.parent / "source").rglob(f"simd_{variant}.o")
        listed = subprocess.run(["nm", "-C", objects], capture_output=True, text=True, check=True).stdout
        assert f"rirn::simd_{variant}" in listed
        assert not re.findall(r"^\w* [WVu] .*$", listed, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["", "generic"])
def test_compiled_wheel_equals_the_formula(compiled, isa):
    _, env = compiled
    code = """
import torch, rirn._C, rirn.kernels, rirn.bench
import torch.nn.functional as F
ops = torch.ops.rirn
f = [torch.randn(2, 3, 13, 21) for _ in range(4)]
torch.testing.assert_close(ops.atb_blend(*f, 0.5), f[2].sigmoid() * f[0] + 0.5 * f[3].sigmoid() * f[1])
w = [torch.randn(6 if i < 5 else 3, 6, 3, 3) / 7 for i in range(6)]
b = [torch.randn(len(x)) for x in w]
conv = lambda x, i: F.conv2d(x, w[i], b[i], padding=1)
x = conv(torch.cat(f[:2], 1), 0).relu()
x = x + conv(conv(x, 1).relu(), 2)
x = x + conv(conv(x, 3).relu(), 4)
torch.testing.assert_close(ops.irm_update(f[0], f[1], w, b), conv(x, 5), rtol=1e-4, atol=1e-4)
print(rirn._C.__file__, ops.cpu_isa(), sep="\\n")
"""
    place, used = env.run(code, **({"RIRN_CPU_ISA": isa} if isa else {})).splitlines()
    assert Path(place).is_relative_to(env.site)
    assert not isa or used == isa
