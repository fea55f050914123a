"""Compile every Triton kernel ahead of time, without a GPU or a driver: proof that it compiles for an
architecture."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from rirn.kernels import OPS, triton, why_not


class Variant(NamedTuple):
    """One specialisation of a kernel: what the just-in-time compiler would see at a launch."""

    name: str
    kernel: Any  # the triton.jit function
    signature: dict[str, str]  # argument: Triton type, constants left out
    constants: dict[str, Any]
    divisible: tuple[str, ...]  # arguments that are multiples of 16, as pointers from torch are


class Compiled(NamedTuple):
    """What came out for one variant and architecture."""

    variant: Variant
    arch: int  # 80 is sm_80
    asm: dict[str, Any]  # ttir, ttgir, llir, ptx as text, cubin as bytes
    shared: int  # bytes of shared memory per program


def variants() -> Iterator[Variant]:
    """Yield the specialisations that the kernels of all ops declare."""
    for op in OPS:
        yield from importlib.import_module(f"rirn.kernels.{op}").variants()


def compile_all(archs: Iterable[int] = (80, 90)) -> Iterator[Compiled]:
    """Compile every variant for every architecture (80, 90, 100, ...); a kernel that does not compile
    raises."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    for arch in archs:
        for variant in variants():
            names = variant.kernel.arg_names
            source = ASTSource(
                fn=variant.kernel,
                signature={name: variant.signature.get(name, "constexpr") for name in names},
                constexprs={(names.index(name),): value for name, value in variant.constants.items()},
                attrs={(names.index(name),): [["tt.divisibility", 16]] for name in variant.divisible},
            )
            done = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4})
            yield Compiled(variant, arch, done.asm, done.metadata.shared)


def main(argv: Sequence[str] | None = None) -> None:
    """Compile for the architectures named (80 and 90 by default) and print one line per variant."""
    archs = [int(arch) for arch in (sys.argv[1:] if argv is None else argv)] or [80, 90]
    for done in compile_all(archs):
        sizes = f"{len(done.asm['cubin']):7d} bytes, {done.shared:6d} bytes shared"
        print(f"sm_{done.arch}  {done.variant.name:50} {sizes}", flush=True)


if __name__ == "__main__":
    missing = why_not()
    sys.exit(missing) if missing else main()
