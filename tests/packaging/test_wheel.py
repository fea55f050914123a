"""Wheels: built from a copy of the sources, installed into a clean environment, used outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "csrc",
    "kernels",
    "bench",
    "rirn",
]


def build_wheel(folder: Path, **switches: str) -> Path:
    """The wheel of a copy of the sources, so that the checkout stays as it is."""
    source = folder / "source"
    source.mkdir(parents=True)
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(
                path, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "_build_info.json")
            )
        elif path.exists():
            shutil.copy(path, source / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(folder),
    ]
    env = {**os.environ, "MAX_JOBS": os.environ.get("MAX_JOBS", "2"), **switches}
    run = subprocess.run(command, cwd=source, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


class CleanEnvironment:
    """A virtual environment that holds one wheel and borrows torch and the other dependencies of this one."""

    def __init__(self, folder: Path, wheel: Path):
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
        self.folder, self.python = folder, folder / "bin" / "python"
        (site,) = (folder / "lib").glob("python*/site-packages")
        # The .pth files of a folder that is itself listed in one are not read: no editable rirn gets in.
        (site / "borrowed.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "--python",
                str(self.python),
                "install",
                "-q",
                "--no-deps",
                "--no-index",
                str(wheel),
            ],
            check=True,
        )
        self.site = site

    def run(self, code: str, **env: str) -> str:
        clean = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RIRN_BACKEND", "RIRN_CPU_ISA")
        }
        run = subprocess.run(
            [str(self.python), "-c", code],
            cwd=self.folder,
            env={**clean, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout.strip()


def top_level(wheel: Path) -> set[str]:
    return {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}


def record(wheel: Path) -> dict:
    return json.loads(zipfile.ZipFile(wheel).read("rirn/_build_info.json"))


@pytest.fixture(scope="module")
def pure(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pure")
    wheel = build_wheel(folder, RIRN_BUILD_CPU="0")
    return wheel, CleanEnvironment(folder / "env", wheel)


def test_pure_wheel_contents(pure):
    wheel, _ = pure
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert top_level(wheel) == {"rirn", next(n for n in top_level(wheel) if n.endswith(".dist-info"))}
    assert {
        "rirn/py.typed",
        "rirn/ops/reference.py",
        "rirn/kernels/__init__.py",
        "rirn/bench/__init__.py",
        "rirn/training/configs/gopro.yaml",
        "rirn/video/report.html",
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


def test_command_is_installed(pure):
    _, env = pure
    assert (env.folder / "bin" / "rirn").is_file()


def test_compiler_free_machine_gets_a_pure_wheel(tmp_path):
    """No C++ compiler: the build succeeds, without importing torch, and says why nothing was compiled."""
    env = {"PATH": str(tmp_path)}
    wheel = build_wheel(tmp_path / "wheel", **env, CXX="")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "no C++ compiler" in record(wheel)["reason"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    wheel = build_wheel(folder, RIRN_BUILD_CUDA="0", RIRN_BUILD_CPU="1")
    return wheel, CleanEnvironment(folder / "env", wheel)


@pytest.mark.slow
def test_compiled_wheel_contents(compiled):
    wheel, _ = compiled
    assert "-cp310-abi3-" in wheel.name
    assert top_level(wheel) == {"rirn", next(n for n in top_level(wheel) if n.endswith(".dist-info"))}
    binaries = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
    assert binaries == ["rirn/_C.abi3.so"]
    assert record(wheel) | {"cpu": True, "cuda": False} == record(wheel)


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
