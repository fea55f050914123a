"""Compile every Triton kernel ahead of time, without a GPU or a driver: this proves that it compiles for an
architecture, and launches then need not compile it.

``python -m rirn.kernels.aot 80 90 100`` prints one line per variant, and with ``--out FOLDER`` keeps the code; ``setup.py`` does
so while rirn is being installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import rirn.kernels
from rirn.kernels import tl, triton, why_not
from rirn.kernels.shipped import put

ARCHS = (80, 90, 100)
SHARED_LIMIT = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024, 120: 99 * 1024}
"""Bytes of shared memory that one program may have (CUDA programming guide, compute capabilities)."""
DTYPES = ("fp32", "fp16", "bf16", "fp64")
TORCH_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}


class Variant(NamedTuple):
    """One specialisation of a kernel: what the just-in-time compiler would see at a launch."""

    name: str
    kernel: Any  # the triton.jit function
    signature: dict[str, str]  # argument: Triton type, constants left out
    constants: dict[str, Any]
    divisible: tuple[str, ...]  # arguments that are multiples of 16, as pointers from torch are
    options: dict[str, int]  # num_warps, num_stages


class Compiled(NamedTuple):
    """The result for one variant and architecture."""

    variant: Variant
    arch: int  # 80 is sm_80
    asm: dict[str, Any]  # ttir, ttgir, llir, ptx as text, cubin as bytes
    shared: int  # bytes of shared memory per program
    kernel: Any  # Triton's own


def wide_of(dtype: str) -> Any:
    """Return the Triton dtype that arithmetic on values of ``dtype`` (fp32, ...) is done in."""
    return tl.float64 if dtype == "fp64" else tl.float32


def variant(
    name: str,
    kernel: Any,
    dtype: str,
    sizes: Mapping[str, str],
    constants: Mapping[str, Any],
    *,
    pointers: Mapping[str, str] | None = None,
    divisible: Sequence[str] | None = None,
    warps: int = 4,
    stages: int = 3,
) -> Variant:
    """Return a variant of a kernel whose pointers are the arguments that begin with ``p_``; an absent one is None among the
    constants.

    Args:
        dtype: what the pointers point to, unless ``pointers`` says otherwise.
        sizes: Triton types of the other arguments that are not constants.
        divisible: which of ``sizes`` are multiples of 16; None means all of them.
    """
    found = [name for name in kernel.arg_names if name.startswith("p_") and name not in constants]
    signature = {pointer: "*" + (pointers or {}).get(pointer, dtype) for pointer in found}
    return Variant(
        name,
        kernel,
        signature | dict(sizes),
        dict(constants),
        (*found, *(sizes if divisible is None else divisible)),
        {"num_warps": warps, "num_stages": stages},
    )


def variants(declared: str = "variants") -> Iterator[Variant]:
    """Yield the specialisations that the kernels of all ops declare, each once; those that checks use, or ``layers``."""
    seen = set()
    for module in kernel_modules():
        for found in getattr(module, declared, tuple)():
            if found.name not in seen:
                seen.add(found.name)
                yield found


def kernel_modules() -> Iterator[Any]:
    """Yield the modules of this package that declare specialisations, apart from this one."""
    for found in pkgutil.iter_modules(rirn.kernels.__path__):
        module = importlib.import_module(f"rirn.kernels.{found.name}")
        if hasattr(module, "variants") and found.name != "aot":
            yield module


class Target:
    """A stand-in for Triton's driver: a GPU of some architecture that compiles but launches nothing. Its number is its
    architecture."""

    def __init__(self, arch: int):
        self.arch = arch

    def get_current_target(self) -> Any:
        """What Triton compiles for."""
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        """The number of the GPU."""
        return self.arch

    def get_current_stream(self, device: int) -> int:
        """The number of a dummy stream."""
        return 0


@contextlib.contextmanager
def driven_by(driver: Any) -> Iterator[None]:
    """Replace Triton's driver."""
    config = triton.runtime.driver
    before = config._active
    config.set_active(driver)
    try:
        yield
    finally:
        config._active = before


def compile_one(variant: Variant, arch: int) -> Compiled:
    """Compile a variant for an architecture (80, 90, 100, ...) as a launch would; one that does not compile raises."""
    arguments = [_argument(variant, name) for name in variant.kernel.arg_names]
    with driven_by(Target(arch)):
        done = variant.kernel.warmup(*arguments, grid=(1,), **variant.options)
    return Compiled(variant, arch, done.asm, done.metadata.shared, done)


def _argument(variant: Variant, name: str) -> Any:
    """Return the stand-in for an argument: a type for tensors, whose addresses count as multiples of 16."""
    if name in variant.constants:
        return variant.constants[name]
    kind = variant.signature[name]
    return TORCH_DTYPES[kind[1:]] if kind.startswith("*") else 16 if name in variant.divisible else 17


def compile_all(archs: Iterable[int] = ARCHS) -> Iterator[Compiled]:
    """Compile every variant for every architecture."""
    for arch in archs:
        for found in variants():
            yield compile_one(found, arch)


def main(argv: Sequence[str] | None = None) -> None:
    """Compile for the architectures named (all of ARCHS by default) and print one line per variant.

    The first variant that does not compile, or whose programs would need more shared memory than the
    architecture has, ends the program with one sentence.
    """
    parser = argparse.ArgumentParser(description="Compile every Triton kernel without a GPU.")
    parser.add_argument("archs", nargs="*", type=int, help=f"such as 90 for sm_90; all of {ARCHS} by default")
    parser.add_argument("--out", type=Path, help="a folder for what rirn.kernels.shipped looks up")
    args = parser.parse_args(argv)
    archs = args.archs or ARCHS
    for arch in archs:
        for found in (*variants(), *(variants("layers") if args.out else ())):
            try:
                done = compile_one(found, arch)
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                sys.exit(f"The Triton kernel {found.name} does not compile for sm_{arch}: {reason[:500]}")
            limit = SHARED_LIMIT.get(arch, max(SHARED_LIMIT.values()))
            if done.shared > limit:
                sys.exit(
                    f"The Triton kernel {found.name} needs {done.shared} bytes of shared memory, "
                    f"more than sm_{arch} has: {limit}"
                )
            if args.out and "-fp64" not in found.name:
                put(done.kernel, args.out)
            sizes = f"{len(done.asm['cubin']):7d} bytes, {done.shared:6d} bytes shared"
            print(f"sm_{arch}  {found.name:60} {sizes}", flush=True)


if __name__ == "__main__":
    missing = why_not()
    sys.exit(missing) if missing else main()
