"""From CUDA C++ to C++ for the emulator: the little that macros cannot do.

* ``kernel<<<grid, block, shared, stream>>>(args)`` becomes a call of ``cuda_on_cpu::launch``;
* ``extern __shared__ T name[];`` becomes a pointer to the block's dynamic shared memory;
* other ``__shared__`` variables are poisoned where they are declared;
* the ops are registered for the CPU, in a namespace of their own.

Lines keep their numbers. What the translator cannot make sense of is an error, never passed through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

NAMESPACE = "rirn_on_cpu"

_NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\((?P<align>[^()]*)\)\s*)?"
    r"(?P<type>[\w:<>, ]+?)\s+(?P<name>\w+)\s*\[\s*\]\s*;"
)
_STATIC = re.compile(r"__shared__\s[^;{}]*;")
_STATIC_NAME = re.compile(r"(\w+)\s*(?:\[[^\[\]]*\]\s*)*;$")
_REGISTER = re.compile(r"STABLE_TORCH_LIBRARY(?:_IMPL)?\(rirn,(?: CUDA,)?")
# Where templates are made for one dtype after the other: binding.h and conv3x3_chain.h.
_TYPES = {
    "double": "fp64",
    "__half": "fp16",
    "__nv_bfloat16": "bf16",
}  # float32 is what the dispatch falls back to
_DISPATCHED = re.compile(rf"(case ScalarType::\w+: )return f\(({'|'.join(_TYPES)})\{{\}}\);")
_INSTANTIATED = re.compile(rf"RIRN_CHAINS\(PREFIX, ({'|'.join(_TYPES)})\)")


class TranslationError(ValueError):
    """The source uses a form that the translator does not know."""


def _code_only(source: str) -> str:
    """Return the source with comments and literals blanked, character for character."""
    return _NOT_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), source)


def _closing(code: str, start: int) -> int:
    """Return the position after the bracket that closes the one at ``start``."""
    depth = 0
    for i in range(start, len(code)):
        depth += (code[i] in "([{") - (code[i] in ")]}")
        if depth == 0:
            return i + 1
    raise TranslationError("a bracket is never closed")


def _kernel_start(code: str, end: int) -> int:
    """Return where the name (and template arguments) of the kernel begins that ends at ``end``."""
    i = end
    while code[i - 1].isspace():
        i -= 1
    if code[i - 1] == ">":
        depth = 0
        while True:
            i -= 1
            depth += (code[i] == ">") - (code[i] == "<")
            if depth == 0:
                break
    found = re.search(r"[\w:]+\s*$", code[:i])
    if not found:
        raise TranslationError("no kernel before <<<")
    return found.start()


def _launches(source: str, code: str) -> list[tuple[int, int, str]]:
    edits = []
    for found in re.finditer("<<<", code):
        start = _kernel_start(code, found.start())
        config_end = found.end()
        while code[config_end : config_end + 3] != ">>>":
            if code[config_end] in "([{":
                config_end = _closing(code, config_end)
            elif code[config_end] in ";}":
                raise TranslationError("no >>> after <<<")
            else:
                config_end += 1
        open_arguments = code.find("(", config_end)
        if open_arguments < 0 or code[config_end + 3 : open_arguments].strip():
            raise TranslationError("no arguments after >>>")
        end = _closing(code, open_arguments)
        kernel = " ".join(source[start : found.start()].split())
        config = source[found.end() : config_end].strip()
        arguments = source[open_arguments:end]
        lost = source[start:open_arguments].count("\n") - config.count("\n")
        edits.append(
            (
                start,
                end,
                f'cuda_on_cpu::launch("{kernel}", cuda_on_cpu::address({kernel}), {config}, '
                f"[&] {{ {kernel}{arguments}; }})" + "\n" * lost,
            )
        )
    return edits


def _shared(code: str) -> list[tuple[int, int, str]]:
    edits = []
    for found in _DYNAMIC.finditer(code):
        kind, name, align = found["type"], found["name"], found["align"] or "16"
        text = f"{kind}* const {name} = static_cast<{kind}*>(cuda_on_cpu::dynamic_shared({align}));"
        edits.append((found.start(), found.end(), text + "\n" * found[0].count("\n")))
    known = [(start, end) for start, end, _ in edits]
    for found in _STATIC.finditer(code):
        if any(start <= found.start() < end for start, end in known):
            continue
        name = _STATIC_NAME.search(found[0])
        # A comma outside template arguments and array bounds separates declarators.
        flat = re.sub(r"<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)", "", found[0])
        if (
            "extern" in code[max(0, found.start() - 10) : found.start()]
            or not name
            or "," in flat
            or "=" in flat
        ):
            raise TranslationError(f"declare one shared variable at a time, without a value: {found[0]!r}")
        # With a value, for g++ makes one of __half only when a thread first comes by, and remembers that in a byte beside it:
        # ThreadSanitizer would see the threads of a block race for it.
        made = f" = {{}}; cuda_on_cpu::poison_shared(&{name[1]}, sizeof {name[1]});"
        edits.append((found.end() - 1, found.end(), made))
    return edits


def translate(source: str, path: str = "source") -> str:
    """Return ``source`` as C++ that the host compiler takes after ``cuda_on_cpu.h``.

    Raises:
        TranslationError: a launch or a shared variable is written in a way that is not known.
    """
    code = _code_only(source)
    try:
        edits = _launches(source, code) + _shared(code)
    except TranslationError as error:
        raise TranslationError(f"{path}: {error}") from None
    for found in _REGISTER.finditer(code):
        text = found[0].replace("rirn", NAMESPACE).replace("CUDA", "CPU")
        edits.append((found.start(), found.end(), text))
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return f'#line 1 "{path}"\n{source}'


def without_other_dtypes(source: str, dtypes: Sequence[str]) -> str:
    """Return ``source`` with kernels for float32 and ``dtypes`` (of fp64, fp16, bf16) alone, which compiles so much faster; a
    call with another one throws."""

    def dispatched(found: re.Match[str]) -> str:
        dtype = _TYPES[found[2]]
        return (
            found[0] if dtype in dtypes else f'{found[1]}throw std::logic_error("compiled without {dtype}");'
        )

    source = _DISPATCHED.sub(dispatched, source)
    return _INSTANTIATED.sub(lambda found: found[0] if _TYPES[found[1]] in dtypes else "", source)


def translate_tree(sources: Path, target: Path, extra: Path, twins: Path, dtypes: Sequence[str]) -> None:
    """Write the translation of ``sources`` (the folder csrc) to ``target``; what did not change is left
    alone.

    The files of ``extra`` are put into ``cuda/``, too. Those of ``twins`` take the place of the ones of their name there: device
    code in PTX. Kernels are made for ``dtypes``.
    """
    origins = {Path(file.name): file for file in [*sources.glob("*.h"), sources / "library.cpp"]}
    for folder in (sources / "cuda", extra, twins):
        origins |= {Path("cuda", file.name): file for file in folder.glob("*.*")}
    for place, origin in origins.items():
        text = without_other_dtypes(translate(origin.read_text(), str(origin)), dtypes)
        file = target / place
        if not file.exists() or file.read_text() != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    for file in target.glob("cuda/*.*"):
        if file.relative_to(target) not in origins:
            file.unlink()
