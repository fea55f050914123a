"""What setup.py decides to compile, in made-up environments. Nothing is built here."""

from __future__ import annotations

import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The functions of setup.py, which builds nothing when imported; no toolkit in the default place."""
    spec = importlib.util.spec_from_file_location("rirn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rirn_setup", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEFAULT_CUDA_HOME", tmp_path / "no-cuda-here")
    return module


def executable(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


@pytest.fixture
def toolkit(tmp_path) -> Path:
    home = tmp_path / "toolkit"
    executable(home / "bin" / "nvcc", "echo 'Cuda compilation tools, release 12.9, V12.9.41'\n")
    (home / "include").mkdir()
    (home / "include" / "cuda_runtime.h").touch()
    return home


@pytest.fixture
def compiler(tmp_path) -> str:
    """A PATH with a C++ compiler and nothing else."""
    return str(executable(tmp_path / "compiler" / "g++").parent)


def fake_torch(version="2.13.0", hip=None, capabilities=()):
    return SimpleNamespace(
        __version__=version,
        version=SimpleNamespace(hip=hip),
        cuda=SimpleNamespace(
            is_available=lambda: bool(capabilities),
            device_count=lambda: len(capabilities),
            get_device_capability=lambda i: capabilities[i],
        ),
    )


def never_torch():
    raise AssertionError("torch must not be imported for a pure-Python install")


def test_no_compiler_gives_pure_python(setup, tmp_path):
    plan = setup.make_plan({"PATH": str(tmp_path)}, never_torch)
    assert (plan.cpu, plan.cuda) == (False, False)
    assert "no C++ compiler" in plan.reason
    assert setup.extension_modules(plan) == []


@pytest.mark.parametrize("name", ["RIRN_BUILD_CPU", "RIRN_BUILD_CUDA"])
def test_insisting_without_compiler_is_an_error(setup, tmp_path, name):
    with pytest.raises(SystemExit, match=rf"{name}=1 needs a C\+\+ compiler.*install g\+\+"):
        setup.make_plan({"PATH": str(tmp_path), name: "1"}, never_torch)


def test_cpu_forbidden(setup, compiler):
    plan = setup.make_plan({"PATH": compiler, "RIRN_BUILD_CPU": "0"}, never_torch)
    assert not plan.cpu
    with pytest.raises(SystemExit, match="contradicts"):
        setup.make_plan({"PATH": compiler, "RIRN_BUILD_CPU": "0", "RIRN_BUILD_CUDA": "1"}, never_torch)


def test_cxx_names_the_compiler(setup, compiler, tmp_path):
    assert setup.find_cxx({"PATH": compiler}) == str(Path(compiler) / "g++")
    assert setup.find_cxx({"PATH": compiler, "CXX": "no-such-compiler -m64"}) is None
    other = executable(tmp_path / "other" / "my-cxx")
    assert setup.find_cxx({"PATH": compiler, "CXX": f"{other} -m64"}) == str(other)


@pytest.mark.parametrize("value", ["yes", "2", "off"])
def test_switch_takes_only_zero_and_one(setup, value):
    with pytest.raises(SystemExit, match=f"RIRN_BUILD_CUDA must be 0, 1 or unset; got '{value}'"):
        setup.make_plan({"PATH": "", "RIRN_BUILD_CUDA": value}, never_torch)


def test_no_nvcc_gives_cpu_kernels(setup, compiler):
    plan = setup.make_plan({"PATH": compiler}, fake_torch)
    assert (plan.cpu, plan.cuda, plan.archs) == (True, False, [])
    assert "no nvcc" in plan.reason


def test_insisting_without_nvcc_names_the_places(setup, compiler, tmp_path):
    env = {"PATH": compiler, "RIRN_BUILD_CUDA": "1", "CUDA_HOME": str(tmp_path / "mine")}
    with pytest.raises(SystemExit) as error:
        setup.make_plan(env, fake_torch)
    assert str(tmp_path / "mine") in str(error.value)
    assert str(tmp_path / "no-cuda-here") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("found_by", ["CUDA_HOME", "CUDA_PATH", "PATH", "default"])
def test_nvcc_is_found(setup, compiler, toolkit, monkeypatch, found_by):
    env = {"PATH": compiler}
    if found_by == "PATH":
        env["PATH"] += os.pathsep + str(toolkit / "bin")
    elif found_by == "default":
        monkeypatch.setattr(setup, "DEFAULT_CUDA_HOME", toolkit)
    else:
        env[found_by] = str(toolkit)
    plan = setup.make_plan(env, fake_torch)
    assert plan.cuda
    assert plan.cuda_home == str(toolkit)
    assert plan.cuda_version == "12.9"
    assert "cuda_home" not in plan.record()


def test_nvcc_wrapper_away_from_its_toolkit(setup, compiler, toolkit, monkeypatch, tmp_path):
    wrapper = executable(tmp_path / "usr" / "bin" / "nvcc", f'exec {toolkit}/bin/nvcc "$@"\n')
    env = {"PATH": compiler + os.pathsep + str(wrapper.parent)}
    assert not setup.make_plan(env, fake_torch).cuda
    monkeypatch.setattr(setup, "DEFAULT_CUDA_HOME", toolkit)
    assert setup.make_plan(env, fake_torch).cuda_home == str(toolkit)


def test_cuda_forbidden(setup, compiler, toolkit):
    plan = setup.make_plan({"PATH": compiler, "CUDA_HOME": str(toolkit), "RIRN_BUILD_CUDA": "0"}, fake_torch)
    assert (plan.cpu, plan.cuda) == (True, False)


def test_rocm_torch_gets_cpu_kernels(setup, compiler, toolkit):
    env = {"PATH": compiler, "CUDA_HOME": str(toolkit)}
    plan = setup.make_plan(env, lambda: fake_torch(hip="6.4"))
    assert not plan.cuda
    assert "ROCm" in plan.reason
    with pytest.raises(SystemExit, match="ROCm"):
        setup.make_plan({**env, "RIRN_BUILD_CUDA": "1"}, lambda: fake_torch(hip="6.4"))


@pytest.mark.parametrize(
    ("wanted", "capabilities", "archs"),
    [
        ("", (), ["8.0+PTX"]),
        ("", ((9, 0), (8, 6), (9, 0)), ["8.6", "9.0"]),
        ("8.0;9.0+PTX", ((8, 6),), ["8.0", "9.0+PTX"]),
        ("8.0 9.0, 10.0", (), ["8.0", "9.0", "10.0"]),
    ],
)
def test_archs(setup, compiler, toolkit, wanted, capabilities, archs):
    env = {"PATH": compiler, "CUDA_HOME": str(toolkit), "TORCH_CUDA_ARCH_LIST": wanted}
    plan = setup.make_plan(env, lambda: fake_torch(capabilities=capabilities))
    assert plan.archs == archs


def test_old_torch(setup, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", fake_torch("2.10.1+cu128"))
    with pytest.raises(SystemExit, match=r"has 2\.10\.1\+cu128: upgrade it with `pip install"):
        setup.import_torch()
    monkeypatch.setitem(sys.modules, "torch", fake_torch("2.11.0a0+git1"))
    assert setup.import_torch().__version__ == "2.11.0a0+git1"


def test_the_oldest_torch_is_one_everywhere(setup):
    oldest = "{}.{}".format(*setup.TORCH_MINIMUM)
    assert f'"torch>={oldest}",' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\nTORCH_OLDEST ?= torch=={oldest}.*\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in ("README.md", "ARCHITECTURE.md", "docs/install.md", "docs/faq.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        said = re.findall(r"torch>=(\d+\.\d+)|torch(?: from)?\s(\d+\.\d+)(?: and later|\. A| \(stable)", text)
        assert said and {a or b for a, b in said} == {oldest}, page
    (minor,) = re.fullmatch(r"0x02(..)0{12}", setup.TORCH_TARGET_VERSION).groups()
    assert int(minor, 16) == setup.TORCH_MINIMUM[1]


def test_missing_torch(setup, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SystemExit, match=r"`pip install 'torch>=2\.11'`, or leave out --no-build-isolation"):
        setup.import_torch()


def test_missing_torch_prints_no_traceback():
    code = (
        "import sys, runpy; sys.modules['torch'] = None; "
        f"runpy.run_path({str(ROOT / 'setup.py')!r}, run_name='__main__')"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("RIRN_BUILD")}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=ROOT, check=False
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    assert "pip install 'torch>=2.11'" in run.stderr


def test_import_builds_nothing():
    before = set(sys.modules)
    names = runpy.run_path(str(ROOT / "setup.py"), run_name="not_main")
    assert callable(names["main"])
    assert not {name for name in set(sys.modules) - before if name.startswith("torch")}


def test_packages_are_those_in_the_checkout(setup, monkeypatch):
    """Every folder of Python files under rirn/ is an installed package, and the two mapped folders exist."""
    monkeypatch.chdir(ROOT)
    found = set(setup.find_packages(include=["rirn", "rirn.*"]))
    with_python = {path.parent.relative_to(ROOT) for path in (ROOT / "rirn").rglob("*.py")}
    assert found == {".".join(folder.parts) for folder in with_python}
    for folder in ("kernels", "bench"):
        assert (ROOT / folder / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("wanted", "archs"),
    [("", ["80", "90", "100"]), ("9.0", ["90"]), ("8.0;9.0a 10.0+PTX", ["80", "90", "100"])],
)
def test_triton_archs(setup, wanted, archs):
    assert setup.triton_archs({"TORCH_CUDA_ARCH_LIST": wanted}) == archs


def test_triton_arch_by_name_is_refused(setup):
    with pytest.raises(SystemExit, match=r"for architectures like 9\.0; got TORCH_CUDA_ARCH_LIST='Hopper'"):
        setup.triton_archs({"TORCH_CUDA_ARCH_LIST": "Hopper"})


def copy_kernels(setup, folder, monkeypatch, edit=lambda text: text):
    """Let setup.py compile a copy of the kernels that has but one op, with its source edited."""
    kernels = folder / "kernels"
    kernels.mkdir()
    for name in ("__init__", "aot", "device", "launch", "shipped", "gru_update"):
        shutil.copy(ROOT / "kernels" / f"{name}.py", kernels)
    source = kernels / "gru_update.py"
    source.write_text(edit(source.read_text()))
    monkeypatch.setattr(setup, "ROOT", folder)
    return dict(os.environ) | {
        "RIRN_BUILD_TRITON": "1",
        "TORCH_CUDA_ARCH_LIST": "9.0",
        "TRITON_CACHE_DIR": str(folder / "cache"),
    }


def test_triton_kernels_are_compiled_if_wanted(setup, tmp_path, monkeypatch, capsys):
    pytest.importorskip("triton")
    env = copy_kernels(setup, tmp_path, monkeypatch)
    setup.compile_triton(env, tmp_path / "package")
    assert "8 Triton kernels compiled for sm_90" in capsys.readouterr().err
    found = list((tmp_path / "package" / "compiled").glob("*/*"))
    assert len(found) == 12 and {path.suffix for path in found} == {
        ".json",
        ".cubin",
    }  # those of float64 do not ship
    setup.compile_triton(env | {"RIRN_BUILD_TRITON": "0"}, tmp_path / "package")
    assert not (tmp_path / "package" / "compiled").exists()


def test_broken_triton_kernel_stops_the_build_where_it_is_insisted_on(setup, tmp_path, monkeypatch, capsys):
    pytest.importorskip("triton")
    env = copy_kernels(
        setup, tmp_path, monkeypatch, lambda text: text.replace("tl.sigmoid(", "tl.sigmoidal(")
    )
    setup.compile_triton(env | {"RIRN_BUILD_TRITON": ""}, tmp_path)
    assert "rirn: Triton kernels are compiled where they run: The Triton kernel" in capsys.readouterr().err
    assert not (tmp_path / "compiled").exists()
    with pytest.raises(SystemExit) as error:
        setup.compile_triton(env, tmp_path)
    message = str(error.value)
    assert message.startswith(
        "RIRN_BUILD_TRITON=1: The Triton kernel gru_update_forward-fp32 does not compile for sm_90: "
    )
    assert "sigmoidal" in message
    assert "\n" not in message


@pytest.mark.parametrize(("value", "there"), [("", False), ("0", True)])
def test_triton_is_left_alone_otherwise(setup, value, there, monkeypatch, tmp_path):
    monkeypatch.setattr(setup.subprocess, "run", lambda *args, **kwargs: pytest.fail("nothing must run"))
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: there or None)
    setup.compile_triton({"RIRN_BUILD_TRITON": value}, tmp_path)


@pytest.mark.parametrize(("value", "kinds"), [("1", "address,undefined"), ("thread", "thread")])
def test_sanitizers(setup, compiler, toolkit, value, kinds):
    env = {"PATH": compiler, "CUDA_HOME": str(toolkit), "RIRN_BUILD_SANITIZE": value}
    plan = setup.make_plan(env, fake_torch)
    assert (plan.cpu, plan.cuda, plan.sanitize) == (True, False, kinds)
    (module,) = setup.extension_modules(plan)
    assert module.extra_link_args == [f"-fsanitize={kinds}"]
    # Behind the ordinary flags, over which the later ones win.
    flags = module.extra_compile_args["cxx"]
    assert flags.index("-O1") > flags.index("-O3") and f"-fsanitize={kinds}" in flags
    with pytest.raises(SystemExit, match=f"RIRN_BUILD_SANITIZE={value} checks the CPU kernels only"):
        setup.make_plan({**env, "RIRN_BUILD_CUDA": "1"}, fake_torch)
    assert not setup.make_plan(env | {"RIRN_BUILD_SANITIZE": "0"}, fake_torch).sanitize
    with pytest.raises(SystemExit, match="RIRN_BUILD_SANITIZE must be 0, 1, thread or unset; got 'memory'"):
        setup.make_plan(env | {"RIRN_BUILD_SANITIZE": "memory"}, fake_torch)
