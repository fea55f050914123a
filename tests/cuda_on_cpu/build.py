"""Compiles csrc/cuda for the CPU, with ninja, into build/cuda_on_cpu; a second time only what changed."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import platform
import runpy
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from tests.cuda_on_cpu.translate import translate_tree

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = Path(__file__).resolve().parent / "emulator"
MODULE = "_cuda_on_cpu"
SOURCES = ROOT / "csrc"
FOLDER = ROOT / "build" / "cuda_on_cpu"
MODE = os.environ.get("RIRN_EMULATE_MODE", "plain")  # a key of FLAGS
# A module to be loaded as it is, compiled in that mode: one with seeded bugs, or for a sanitizer.
BUILT = os.environ.get("RIRN_EMULATE_MODULE")
DTYPES = ("fp64", "fp32", "fp16", "bf16")
SMALL_DTYPES = ("fp32", "fp16", "bf16")  # of the tests named test_small

FLAGS = {
    "plain": ("-O1 -g0", ""),
    "asan": (
        "-O1 -g1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=undefined",
        "-DEMULATE_ASAN",
    ),
    "tsan": ("-O1 -g1 -fsanitize=thread", "-DEMULATE_TSAN"),
}


def cuda_include() -> Path | None:
    """Return the folder of the toolkit's headers, or None."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    nvcc = shutil.which("nvcc")
    homes += [str(Path(nvcc).resolve().parent.parent) if nvcc else None, "/usr/local/cuda"]
    for home in filter(None, homes):
        if (Path(home) / "include" / "cuda_fp16.h").is_file():
            return Path(home) / "include"
    return None


@cache
def why_not() -> str | None:
    """Return what keeps the CUDA sources from running on this CPU, or None."""
    if platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux":
        return f"the emulator's fibers are written for Linux on x86-64; this is {platform.system()} on {platform.machine()}"
    if shutil.which("g++") is None:
        return "no g++ on PATH"
    if shutil.which("ninja") is None:
        return "no ninja on PATH"
    if importlib.util.find_spec("pybind11") is None:
        return "no pybind11; install it with `pip install pybind11`"
    if cuda_include() is None:
        return "no CUDA headers (cuda_fp16.h): set CUDA_HOME to a toolkit"
    return None


def _ninja_file(folder: Path, mode: str, ops: tuple[str, ...]) -> str:
    import pybind11

    kernel_flags, runtime_flags = FLAGS[mode]
    torch_home = Path(torch.__file__).parent
    includes = [EMULATOR / "shims", EMULATOR, torch_home / "include", cuda_include()]
    common = " ".join(
        [
            "-std=c++17 -fPIC -fvisibility=hidden -w",
            *(f"-I{path}" for path in includes),
            f"-DTORCH_TARGET_VERSION={runpy.run_path(str(ROOT / 'setup.py'))['TORCH_TARGET_VERSION']}",
            f"-isystem {sysconfig.get_path('include')}",
        ]
    )
    rules = f"""
rule cxx
  command = g++ $flags -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = g++ $flags -shared $in -o $out -L{torch_home / "lib"} -ltorch_cpu -lc10 -Wl,-Bsymbolic -pthread
build prefix.h.gch: cxx {EMULATOR / "prefix.h"}
  flags = {common} {kernel_flags} -x c++-header
build runtime.o: cxx {EMULATOR / "runtime.cpp"}
  flags = {common} -O2 {runtime_flags}
build module.o: cxx {EMULATOR / "module.cpp"}
  flags = -I{pybind11.get_include()} {common} -O0 -DEMULATOR_MODULE={MODULE}
"""
    sources = sorted((folder / "csrc" / "cuda").glob("*.cu"))
    sources = [folder / "csrc" / "library.cpp", *(s for s in sources if not ops or s.stem in ops)]
    objects = ["runtime.o", "module.o"]
    for source in sources:
        objects.append(f"{source.stem}.o")
        rules += f"build {source.stem}.o: cxx {source} | prefix.h.gch\n"
        rules += f"  flags = {common} {kernel_flags} -include prefix.h -x c++\n"
    rules += f"build {MODULE}.so: link {' '.join(objects)}\n  flags = {kernel_flags}\n"
    return rules


def build(
    sources: Path = SOURCES,
    folder: Path = FOLDER,
    mode: str = MODE,
    ops: tuple[str, ...] = (),
    dtypes: tuple[str, ...] = DTYPES,
) -> Path:
    """Compile ``sources`` (a copy of csrc) and return the module's path.

    Of the files ``<op>.cu`` those of ``ops`` alone (none named: all), and of their kernels those for ``dtypes``.

    Raises:
        RuntimeError: what the compiler said.
    """
    folder = folder / mode
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        translate_tree(sources, folder / "csrc", EMULATOR.parent / "kernels", EMULATOR / "twins", dtypes)
        rules = _ninja_file(folder, mode, ops)
        (folder / "build.ninja").write_text(rules)
        command = ["ninja", "-C", str(folder)]
        if os.environ.get("MAX_JOBS"):
            command += ["-j", os.environ["MAX_JOBS"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"the CUDA sources do not compile for the CPU:\n{done.stdout[-6000:]}{done.stderr}"
            )
    return folder / f"{MODULE}.so"


@cache
def emulator() -> ModuleType:
    """Return the compiled module; its ops are then in ``torch.ops.rirn_on_cpu``."""
    spec = importlib.util.spec_from_file_location(MODULE, BUILT or build())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
