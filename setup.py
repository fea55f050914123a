"""Build of rirn: pure-Python packages plus one compiled library, ``rirn/_C.abi3.so``.

What gets compiled depends on the available compilers, never on whether a GPU is visible:

* a C++ compiler: the CPU kernels; none: a pure-Python install that runs on the reference implementation;
* nvcc as well: also the CUDA kernels, even with a CPU-only torch.

Environment: ``RIRN_BUILD_CPU`` and ``RIRN_BUILD_CUDA`` (``1`` insists, ``0`` forbids, unset decides as above),
``RIRN_BUILD_TRITON`` (the same for Triton's kernels, which are compiled if Triton is installed, for exactly that
Triton; others compile them at run time), ``RIRN_BUILD_SANITIZE`` (``1`` checks the CPU kernels for memory errors and
undefined behaviour as they run, ``thread`` for data races: `make test-sanitize`, `make test-threads`),
``TORCH_CUDA_ARCH_LIST``, ``MAX_JOBS``, ``CUDA_HOME``, ``CXX``. The decision is printed in one line (pip shows it with
``-v``) and recorded in ``rirn/_build_info.json``. Everything else about the package is in ``pyproject.toml``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TORCH_MINIMUM = (2, 11)
# The stable ABI of that release, even if a later one compiles it: runs there and on anything later.
TORCH_TARGET_VERSION = "0x{:02x}{:02x}000000000000".format(*TORCH_MINIMUM)
PYTHON_ABI_TAG = "cp310"
DEFAULT_CUDA_HOME = Path("/usr/local/cuda")
DEFAULT_CUDA_ARCHS = "8.0+PTX"  # when no GPU is visible: Ampere, and just-in-time from PTX on anything newer
DEFAULT_TRITON_ARCHS = ["8.0", "9.0", "10.0"]

# -g0: Python passes on the -g it was built with, which makes the library three times as large and the build slower.
CXX_FLAGS = ["-O3", "-g0", "-std=c++17", "-fvisibility=hidden", "-Wall"]
# Instead of optimisation: stop at the first read or write outside an allocation and at undefined behaviour. Some
# optimisation stays, without which the always-inlined loops of the SIMD kernels take many minutes to run.
SANITIZERS = {"1": "address,undefined", "thread": "thread"}
SANITIZER_FLAGS = ["-O1", "-g1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]
NVCC_FLAGS = ["-O3", "-std=c++17", "--expt-relaxed-constexpr", "-lineinfo", "-Xcompiler=-fvisibility=hidden"]


class BuildError(SystemExit):
    """Stops the build with one sentence instead of a traceback."""


@dataclass
class Plan:
    """What will be compiled, and why."""

    cpu: bool
    cuda: bool
    reason: str
    archs: list[str] = field(default_factory=list)
    cuda_home: str | None = None
    cuda_version: str | None = None
    sanitize: str = ""

    def record(self) -> dict[str, object]:
        """The facts to keep with the installed package, without paths of the build machine."""
        return {key: value for key, value in asdict(self).items() if key != "cuda_home"}


def switch(env: Mapping[str, str], name: str) -> bool | None:
    """Return a build switch: True, False, or None if it is unset."""
    value = env.get(name, "")
    if value not in ("", "0", "1"):
        raise BuildError(f"{name} must be 0, 1 or unset; got {value!r}.")
    return None if value == "" else value == "1"


def find_cxx(env: Mapping[str, str]) -> str | None:
    """Return the C++ compiler that the build will call, or None."""
    names = [env["CXX"].split()[0]] if env.get("CXX", "").split() else ["c++", "g++", "clang++"]
    return next((found for name in names if (found := shutil.which(name, path=env.get("PATH", "")))), None)


def cuda_candidates(env: Mapping[str, str]) -> list[Path]:
    """Return folders that may hold a CUDA toolkit, in the order to try them."""
    places = [Path(env[name]) for name in ("CUDA_HOME", "CUDA_PATH") if env.get(name)]
    on_path = shutil.which("nvcc", path=env.get("PATH", ""))
    if on_path:
        places.append(Path(on_path).resolve().parent.parent)
    return [*places, DEFAULT_CUDA_HOME]


def find_cuda_home(env: Mapping[str, str]) -> Path | None:
    """Return the first candidate with nvcc and headers: an nvcc on PATH may be a wrapper far from its toolkit."""
    for home in cuda_candidates(env):
        if (home / "bin" / "nvcc").is_file() and (home / "include" / "cuda_runtime.h").is_file():
            return home
    return None


def nvcc_version(cuda_home: Path) -> str:
    """Return the release of nvcc, such as 13.0."""
    text = subprocess.run(
        [cuda_home / "bin" / "nvcc", "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"release (\d+\.\d+)", text)
    if not found:
        raise BuildError(f"Cannot read the version of {cuda_home / 'bin' / 'nvcc'} from: {text.strip()!r}.")
    return found[1]


def cuda_archs(env: Mapping[str, str], torch) -> list[str]:
    """Return the architectures to compile for, in the form of TORCH_CUDA_ARCH_LIST."""
    wanted = env.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").replace(",", " ").split()
    if wanted:
        return wanted
    if torch.cuda.is_available():
        found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
        return [f"{major}.{minor}" for major, minor in sorted(found)]
    return [DEFAULT_CUDA_ARCHS]


def import_torch():
    """Import torch, or stop the build with the command that fixes it."""
    try:
        import torch
    except ImportError as error:
        raise BuildError(
            f"Building rirn without build isolation needs torch >= 2.11, which fails to import ({error}): "
            "install it with `pip install 'torch>=2.11'`, or leave out --no-build-isolation."
        ) from None
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < TORCH_MINIMUM:
        raise BuildError(
            f"rirn needs torch >= 2.11 to build, and this environment has {torch.__version__}: "
            "upgrade it with `pip install 'torch>=2.11'`."
        )
    return torch


def make_plan(env: Mapping[str, str], load_torch=import_torch) -> Plan:
    """Decide what to compile. Imports torch only if something is compiled."""
    want_cpu, want_cuda = switch(env, "RIRN_BUILD_CPU"), switch(env, "RIRN_BUILD_CUDA")
    if want_cpu is False:
        if want_cuda:
            raise BuildError(
                "RIRN_BUILD_CUDA=1 contradicts RIRN_BUILD_CPU=0: the CUDA kernels live in the same library."
            )
        return Plan(
            False, False, "pure Python, on the reference implementation: RIRN_BUILD_CPU=0 forbids compiling"
        )
    if find_cxx(env) is None:
        if want_cpu or want_cuda:
            name = "RIRN_BUILD_CPU" if want_cpu else "RIRN_BUILD_CUDA"
            raise BuildError(
                f"{name}=1 needs a C++ compiler: none of CXX, c++, g++, clang++ is on PATH; install g++."
            )
        return Plan(False, False, "pure Python, on the reference implementation: no C++ compiler was found")
    torch = load_torch()
    sanitize = env.get("RIRN_BUILD_SANITIZE", "")
    if sanitize not in ("", "0", *SANITIZERS):
        raise BuildError(f"RIRN_BUILD_SANITIZE must be 0, 1, thread or unset; got {sanitize!r}.")
    if sanitize in SANITIZERS:
        if want_cuda:
            raise BuildError(
                f"RIRN_BUILD_SANITIZE={sanitize} checks the CPU kernels only: leave out RIRN_BUILD_CUDA=1 or set it to 0."
            )
        kinds = SANITIZERS[sanitize]
        return Plan(True, False, f"CPU kernels with the sanitizers {kinds}", sanitize=kinds)
    if want_cuda is False:
        return Plan(True, False, "CPU kernels without CUDA: RIRN_BUILD_CUDA=0")
    home = find_cuda_home(env)
    if home is None or torch.version.hip:
        if want_cuda:
            tried = ", ".join(str(place) for place in cuda_candidates(env))
            cause = (
                "this torch is built for ROCm" if home else f"no CUDA toolkit with nvcc in any of: {tried}"
            )
            raise BuildError(
                f"RIRN_BUILD_CUDA=1 but {cause}; install the toolkit or set CUDA_HOME to its folder."
            )
        return Plan(
            True,
            False,
            "CPU kernels without CUDA: " + ("torch is built for ROCm" if home else "no nvcc was found"),
        )
    version = nvcc_version(home)
    archs = cuda_archs(env, torch)
    return Plan(
        True, True, f"CPU and CUDA kernels: nvcc {version} for {' '.join(archs)}", archs, str(home), version
    )


def extension_modules(plan: Plan) -> list:
    """Return the compiled library, if any: linked only to torch's CPU libraries, it can be imported with every torch."""
    if not plan.cpu:
        return []
    from torch.utils import cpp_extension

    sources = [
        ROOT / "csrc" / "library.cpp",
        ROOT / "csrc" / "build_info.cpp",
        *sorted((ROOT / "csrc" / "cpu").glob("*.cpp")),
    ]
    target = f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}"
    flags = {"cxx": [*CXX_FLAGS, target], "nvcc": [*NVCC_FLAGS, target]}
    include_dirs, library_dirs, libraries, link_flags = [], [], [], []
    if plan.sanitize:
        link_flags = [f"-fsanitize={plan.sanitize}"]
        flags["cxx"] += [*SANITIZER_FLAGS, *link_flags]
    if plan.cuda:
        home = Path(plan.cuda_home)
        # cpp_extension ignores the toolkit if torch itself was built without CUDA. Its version check protects
        # the ABI of torch's own CUDA libraries, none of which we use.
        cpp_extension.CUDA_HOME = plan.cuda_home
        cpp_extension._check_cuda_version = lambda *args, **kwargs: None
        os.environ["TORCH_CUDA_ARCH_LIST"] = ";".join(plan.archs)
        sources += sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
        flags["cxx"] += [
            f"-DRIRN_CUDA_VERSION={plan.cuda_version}",
            f"-DRIRN_CUDA_ARCHS={','.join(plan.archs)}",
        ]
        include_dirs = [str(home / "include")]
        library_dirs = [str(home / "lib64"), str(home / "lib")]
        libraries = ["cudart_static", "dl", "rt", "pthread"]
    return [
        cpp_extension.CppExtension(
            "rirn._C",
            [str(source.relative_to(ROOT)) for source in sources],
            include_dirs=include_dirs,
            library_dirs=library_dirs,
            libraries=libraries,
            depends=[str(header.relative_to(ROOT)) for header in sorted((ROOT / "csrc").rglob("*.*h"))],
            extra_compile_args=flags,
            extra_link_args=link_flags,
            py_limited_api=True,
        )
    ]


def commands(plan: Plan) -> dict[str, type]:
    """Return the build commands that follow the plan."""

    class BuildPy(build_py):
        """Copies the packages and writes the record of the build beside them."""

        def run(self):
            super().run()
            folder = ROOT / "rirn" if self.editable_mode else Path(self.build_lib) / "rirn"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "_build_info.json").write_text(json.dumps(plan.record(), indent=2) + "\n")
            compile_triton(os.environ, ROOT / "kernels" if self.editable_mode else folder / "kernels")

    if not plan.cpu:
        return {"build_py": BuildPy}
    from torch.utils.cpp_extension import BuildExtension

    return {"build_py": BuildPy, "build_ext": BuildExtension}


# Only rirn's kernels are imported, from these sources: they need only torch and Triton.
RUN_AOT = """
import importlib.util, sys, types
sys.modules["rirn"] = types.ModuleType("rirn")
sys.modules["rirn"].__path__ = []
spec = importlib.util.spec_from_file_location(
    "rirn.kernels", "kernels/__init__.py", submodule_search_locations=["kernels"]
)
kernels = sys.modules["rirn.kernels"] = sys.modules["rirn"].kernels = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernels)
if kernels.why_not():
    sys.exit(kernels.why_not())
from rirn.kernels.aot import main
main(sys.argv[1:])
"""


def triton_archs(env: Mapping[str, str]) -> list[str]:
    """Return the architectures to compile Triton kernels for, as rirn.kernels.aot names them: 80 is 8.0."""
    wanted = env.get("TORCH_CUDA_ARCH_LIST", "").replace(";", " ").replace(",", " ").split()
    found = [re.fullmatch(r"(\d+)\.(\d)[af]?(\+PTX)?", arch) for arch in wanted or DEFAULT_TRITON_ARCHS]
    if None in found:
        raise BuildError(
            f"Triton kernels are compiled for architectures like 9.0; got TORCH_CUDA_ARCH_LIST={' '.join(wanted)!r}."
        )
    return [match[1] + match[2] for match in found]


def compile_triton(env: Mapping[str, str], package: Path) -> None:
    """Put compiled Triton kernels into the package's folder ``compiled`` if Triton is installed. If one does not compile, all
    are compiled at run time instead; with RIRN_BUILD_TRITON=1, it stops the build."""
    wanted = switch(env, "RIRN_BUILD_TRITON")
    shutil.rmtree(package / "compiled", ignore_errors=True)
    if wanted is False or (wanted is None and importlib.util.find_spec("triton") is None):
        return
    archs = triton_archs(env)
    # Kept between builds, so that only what changed is compiled.
    clean = {name: value for name, value in env.items() if name != "TRITON_INTERPRET"}
    clean = {"TRITON_CACHE_DIR": str(ROOT / "build" / "triton")} | clean | {"TRITON_STORE_BINARY_ONLY": "1"}

    def compiled(arch: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", RUN_AOT, arch, "--out", str(package / "compiled")]
        return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(int(env.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        done = list(pool.map(compiled, archs))
    failed = next((d for d in done if d.returncode), None)
    if failed is not None:
        last = (failed.stderr.strip().splitlines() or ["no reason was given"])[-1]
        if wanted:
            raise BuildError(f"RIRN_BUILD_TRITON=1: {last}")
        shutil.rmtree(package / "compiled", ignore_errors=True)
        print(f"rirn: Triton kernels are compiled where they run: {last}", file=sys.stderr)
        return
    count = sum(len(d.stdout.splitlines()) for d in done)
    print(f"rirn: {count} Triton kernels compiled for sm_{', sm_'.join(archs)}", file=sys.stderr)


def main() -> None:
    plan = make_plan(os.environ)
    print(f"rirn: {plan.reason}", file=sys.stderr)
    setup(
        packages=[*find_packages(include=["rirn", "rirn.*"]), "rirn.kernels", "rirn.bench"],
        package_dir={"rirn.kernels": "kernels", "rirn.bench": "bench"},
        package_data={
            "rirn": [
                "py.typed",
                "weights/*.safetensors",
                "weights/*.md",
                "training/configs/*.yaml",
                "compare/*.html",
            ]
        },
        include_package_data=False,
        ext_modules=extension_modules(plan),
        cmdclass=commands(plan),
        options={"bdist_wheel": {"py_limited_api": PYTHON_ABI_TAG}} if plan.cpu else {},
    )


if __name__ == "__main__":
    main()
