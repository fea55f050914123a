"""Static gates on the machine code of the CUDA kernels: registers, spills, occupancy, width of accesses, shared memory.

``budget.toml`` says what every kernel may use on every architecture. The kernels are compiled with the flags of setup.py;
no GPU is asked. After a change that is meant::

    python -m tests.kernels.budget --update [OP ...]

writes what is found now; the difference is part of the review. All of it is read from machine code: nothing here is a
measurement on a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUDGET = Path(__file__).with_name("budget.toml")
FOLDER = ROOT / "build" / "budget"
ARCHS = (80, 90, 100)

# Of one multiprocessor, the same for 8.0, 9.0 and 10.0 but for shared memory: CUDA C++ Programming Guide, table "Technical
# Specifications per Compute Capability".
WARPS, BLOCKS, REGISTERS = 64, 32, 65536
SHARED = {80: 164 << 10, 90: 228 << 10, 100: 228 << 10}
# Units of allocation: registers by warp, shared memory by block, of which the system keeps 1 KiB. CUDA Occupancy Calculator.
REGISTER_UNIT, SHARED_UNIT, SHARED_RESERVED = 256, 128, 1024
PARTITIONS = 4  # of the registers; a warp lives in one of them


@dataclass(frozen=True)
class Use:
    """What one kernel uses on one architecture."""

    registers: int  # a thread
    shared: int  # static, bytes a block
    occupancy: (
        int  # percent of the warps a multiprocessor can hold, by registers, shared memory and size of block
    )
    wide: int  # percent of the accesses to global memory in the machine code that are of 128 bits
    tensor: int  # tensor-core instructions in the machine code
    spills: int = 0  # accesses to local memory in the machine code: never in the budget, always forbidden


def occupancy(arch: int, registers: int, shared: int, threads: int) -> int:
    """Return the percentage of a multiprocessor's warps that are resident, rounded down; ``shared`` in bytes a block."""
    warps = -(-threads // 32)
    per_warp = -(-registers * 32 // REGISTER_UNIT) * REGISTER_UNIT
    by_registers = REGISTERS // PARTITIONS // per_warp * PARTITIONS // warps if per_warp else BLOCKS
    by_shared = SHARED[arch] // (-(-(shared + SHARED_RESERVED) // SHARED_UNIT) * SHARED_UNIT)
    return 100 * min(BLOCKS, WARPS // warps, by_registers, by_shared) * warps // WARPS


@cache
def _setup():
    spec = importlib.util.spec_from_file_location("rirn_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


@cache
def tools() -> Path | None:
    """Return the folder of cuobjdump and nvdisasm: of the toolkit, or those that come with triton."""
    found = shutil.which("cuobjdump")
    if found and shutil.which("nvdisasm"):
        return Path(found).parent
    triton = importlib.util.find_spec("triton")
    folder = Path(triton.origin).parent / "backends" / "nvidia" / "bin" if triton else None
    return folder if folder and (folder / "nvdisasm").exists() else None


def why_not() -> str | None:
    """Return what keeps the machine code from being made and read here, or None."""
    if importlib.util.find_spec("tomllib") is None:
        return "the budget is read with tomllib, which came with Python 3.11"
    if _setup().find_cuda_home(os.environ) is None:
        return "no CUDA toolkit with nvcc"
    if tools() is None:
        return "no cuobjdump and nvdisasm: on PATH, or from `pip install triton`"
    return None


def ops() -> list[str]:
    return sorted(path.stem for path in (ROOT / "csrc" / "cuda").glob("*.cu"))


def compile_op(op: str, arch: int) -> Path:
    """Return the machine code of an op, compiled anew if anything in csrc has changed."""
    import torch

    folder = ROOT / "csrc"
    source = folder / "cuda" / f"{op}.cu"
    key = hashlib.sha256(repr((_nvcc(arch), torch.__version__)).encode())
    for path in [*sorted(folder.glob("*.h")), *sorted(folder.glob("cuda/*.*h")), source]:
        key.update(path.read_bytes())
    cubin = FOLDER / f"{op}-sm_{arch}-{key.hexdigest()[:16]}.cubin"
    if not cubin.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = cubin.with_suffix(f".{os.getpid()}")
        compile_source(source, arch, partial)
        partial.replace(cubin)
    return cubin


def compile_source(source: Path, arch: int, cubin: Path) -> None:
    """Write the machine code of a CUDA source, compiled as setup.py compiles the extension.

    Raises:
        RuntimeError: nvcc does not compile it.
    """
    command = [*_nvcc(arch), str(source), "-o", str(cubin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvcc does not compile {source} for sm_{arch}:\n{done.stderr}")


def _nvcc(arch: int) -> list[str]:
    import torch

    setup = _setup()
    include = Path(torch.__file__).parent / "include"
    command = [
        str(setup.find_cuda_home(os.environ) / "bin" / "nvcc"),
        *setup.NVCC_FLAGS,
        f"-arch=sm_{arch}",
        "-cubin",
    ]
    return [*command, f"-DTORCH_TARGET_VERSION={setup.TORCH_TARGET_VERSION}", f"-I{include}"]


def _dump(cubin: Path, what: str) -> str:
    path = f"{tools()}{os.pathsep}{os.environ['PATH']}"  # cuobjdump calls nvdisasm
    command = [str(tools() / "cuobjdump"), what, str(cubin)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    ).stdout


def short_names(mangled: Sequence[str]) -> list[str]:
    """Return the kernels' names with their template arguments, without namespaces and parameters."""
    text = subprocess.run(
        ["c++filt", *mangled], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = []
    for line in text:
        line = re.sub(r"rirn::(cuda::)?(\(anonymous namespace\)::)?", "", line).removeprefix("void ")
        depth = 0
        for i, c in enumerate(line):
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                line = line[:i]
                break
        names.append(re.sub(r"\((int|bool)\)", "", line))
    return names


def instructions(cubin: Path) -> dict[str, list[str]]:
    """Return the instructions of the kernels in ``cubin``, with their modifiers and in their order, by mangled name."""
    code = re.findall(r"Function : (\S+)\n(.*?)(?=\n\s*Function : |\Z)", _dump(cubin, "-sass"), re.DOTALL)
    word = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]+)")
    return {name: word.findall(text) for name, text in code}


def measure(cubin: Path, arch: int, dynamic_shared: dict[str, int] | None = None) -> dict[str, Use]:
    """Return what the kernels in ``cubin`` use, by short name; ``dynamic_shared`` in bytes a block, where there is any."""
    usage = re.findall(r"Function (\S+):\s*\n\s*REG:(\d+).*?SHARED:(\d+)", _dump(cubin, "-res-usage"))
    sections = re.split(r"^\.nv\.info\.(\S+)\s*$", _dump(cubin, "-elf"), flags=re.MULTILINE)
    threads = {}
    for name, text in zip(sections[1::2], sections[2::2], strict=True):
        bound = re.search(r"EIATTR_MAX_THREADS\s+Format:\s+\S+\s+Value:\s+(.*)", text)
        if bound and name not in threads:
            x, y, z = (int(n, 16) for n in bound[1].split()[:3])
            threads[name] = x * y * z
    code = instructions(cubin)
    found = {}
    for (name, registers, shared), short in zip(usage, short_names([u[0] for u in usage]), strict=True):
        if name not in threads:
            raise RuntimeError(f"{short} needs __launch_bounds__: without it nobody knows its occupancy")
        words = code[name]
        accesses = [word for word in words if word.startswith(("LDG", "STG"))]
        wide = sum(".128" in word for word in accesses)
        # The system's own kilobyte is counted as static from 9.0 on.
        static = int(shared) - (SHARED_RESERVED if arch >= 90 and int(shared) >= SHARED_RESERVED else 0)
        total = static + (dynamic_shared or {}).get(short, 0)
        found[short] = Use(
            registers=int(registers),
            shared=static,
            occupancy=occupancy(arch, int(registers), total, threads[name]),
            wide=100 * wide // len(accesses) if accesses else 0,
            tensor=sum(word.startswith(("HMMA", "HGMMA", "UTCHMMA")) for word in words),
            spills=sum(word.startswith(("LDL", "STL")) for word in words),
        )
    return found


COUNTED = (
    "HMMA",
    "LDSM",
    "LDGSTS",
    "LDG.128",
    "LDG",
    "STG.128",
    "STG",
    "LDS",
    "STS",
    "SHFL",
    "BAR",
    "FFMA",
    "DFMA",
)


def counts(words: Sequence[str]) -> dict[str, int]:
    """Return how many of the instructions ``words`` there are of each kind in COUNTED, and of all; each counts once."""
    found = dict.fromkeys(COUNTED, 0)
    for word in words:
        kind, _, modifiers = word.partition(".")
        wide = f"{kind}.128" if "128" in modifiers.split(".") else kind
        for name in (wide, kind):
            if name in found:
                found[name] += 1
                break
    return found | {"all": len(words)}


def violations(
    budget: dict[str, Use],
    found: dict[str, Use],
    least_occupancy: int = 0,
    exceptions: Collection[str] = (),
) -> list[str]:
    """Return one sentence for everything that is over (or under) its budget.

    ``least_occupancy`` is not asked of the kernels in ``exceptions``, nor of those in float64: they are there for the tests of
    gradients, and a number takes twice the registers.
    """
    bad = [f"{name} is not in the budget" for name in found.keys() - budget.keys()]
    bad += [f"{name} is in the budget but does not exist" for name in budget.keys() - found.keys()]
    for name in sorted(budget.keys() & found.keys()):
        allowed, used = budget[name], found[name]
        for what in ("registers", "shared"):
            if getattr(used, what) > getattr(allowed, what):
                bad.append(f"{name}: {what} {getattr(used, what)}, allowed {getattr(allowed, what)}")
        for what in ("occupancy", "wide", "tensor"):
            if getattr(used, what) < getattr(allowed, what):
                bad.append(f"{name}: {what} {getattr(used, what)}, wanted {getattr(allowed, what)}")
        if used.occupancy < least_occupancy and "<double" not in name and name not in exceptions:
            bad.append(
                f"{name}: occupancy {used.occupancy}, wanted of a memory-bound kernel {least_occupancy}"
            )
        if used.spills:
            bad.append(f"{name}: {used.spills} accesses to spilled registers")
    return bad


def read_budget(path: Path = BUDGET) -> dict:
    import tomllib

    return tomllib.loads(path.read_text()) if path.exists() else {}


def budget_of(op: str, arch: int, data: dict) -> dict[str, Use]:
    entries = data.get("kernels", {}).get(op, {})
    return {name: Use(**archs[f"sm_{arch}"]) for name, archs in entries.items() if f"sm_{arch}" in archs}


def measure_all(names: Iterable[str], data: dict) -> dict[str, dict[int, dict[str, Use]]]:
    """Return what every kernel of every op uses on every architecture."""
    names, dynamic = list(names), data.get("dynamic_shared", {})
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))) as pool:
        jobs = {(op, arch): pool.submit(compile_op, op, arch) for op in names for arch in ARCHS}
        return {op: {arch: measure(jobs[op, arch].result(), arch, dynamic) for arch in ARCHS} for op in names}


HEAD = """\
# What the CUDA kernels may use, see budget.py: written by `python -m tests.kernels.budget --update`. Registers and shared memory
# (static, bytes) are upper limits; occupancy, wide (128-bit accesses to global memory) and tensor (instructions) are lower ones,
# the first two in percent. Read from machine code, not measured on a GPU.
# Filled in by hand: the ops whose time is that of memory, whose kernels (but for those of float64) reach `least_occupancy`; those
# that do not, because held to 64 registers by __launch_bounds__ they spill (notes/kernel-ladder.md says what else was tried); the
# dynamic shared memory of the kernels that have any, in bytes at their largest (tests/cuda_on_cpu/test_dynamic_shared.py).
"""


def write_budget(found: dict[str, dict[int, dict[str, Use]]], data: dict, path: Path = BUDGET) -> None:
    """Write the budget: the kernels of the ops in ``found`` anew, everything else as in ``data``."""
    kernels = {
        op: entries for op, entries in data.get("kernels", {}).items() if op in ops() and op not in found
    }
    for op, archs in found.items():
        entries = kernels[op] = {}
        for arch, uses in archs.items():
            for name, use in uses.items():
                entry = {key: value for key, value in vars(use).items() if key != "spills"}
                entries.setdefault(name, {})[f"sm_{arch}"] = entry
    lines = [HEAD, f"memory_bound = {sorted(data.get('memory_bound', []))}".replace("'", '"')]
    lines += [f"least_occupancy = {data.get('least_occupancy', 50)}", "below_least_occupancy = ["]
    lines += [f'    "{name}",' for name in sorted(data.get("below_least_occupancy", []))]
    lines += ["]", "", "[dynamic_shared]"]
    lines += [f'"{name}" = {size}' for name, size in sorted(data.get("dynamic_shared", {}).items())]
    for op in sorted(kernels):
        for name in sorted(kernels[op]):
            lines += ["", f'[kernels.{op}."{name}"]']
            for arch, entry in kernels[op][name].items():
                lines.append(
                    f"{arch} = {{ " + ", ".join(f"{key} = {value}" for key, value in entry.items()) + " }"
                )
    path.write_text("\n".join(lines) + "\n")


def print_instructions(names: Iterable[str]) -> None:
    """Print what the machine code of every kernel consists of, as a table."""
    print("| kernel | arch | " + " | ".join([*COUNTED, "all"]) + " |")
    print("|---" * (len(COUNTED) + 3) + "|")
    for op in names:
        for arch in ARCHS:
            code = instructions(compile_op(op, arch))
            for words, name in sorted(
                zip(code.values(), short_names(list(code)), strict=True), key=lambda kernel: kernel[1]
            ):
                print(f"| `{name}` | sm_{arch} | " + " | ".join(map(str, counts(words).values())) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description="What the CUDA kernels use, and what the budget allows.")
    parser.add_argument("ops", nargs="*", help="the ops to look at; all by default")
    parser.add_argument("--update", action="store_true", help="write what is found into budget.toml")
    parser.add_argument(
        "--instructions", action="store_true", help="print a table of the instructions of the kernels instead"
    )
    arguments = parser.parse_args()
    reason = why_not()
    if reason:
        raise SystemExit(reason)
    if arguments.instructions:
        print_instructions(arguments.ops or ops())
        return
    data = read_budget()
    found = measure_all(arguments.ops or ops(), data)
    for op, archs in found.items():
        for arch, uses in archs.items():
            for name, use in sorted(uses.items()):
                print(
                    f"{op} sm_{arch} {name}: "
                    + ", ".join(f"{key} {value}" for key, value in vars(use).items())
                )
    if arguments.update:
        write_budget(found, data)


if __name__ == "__main__":
    main()
