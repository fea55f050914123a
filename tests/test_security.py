"""Nothing that comes from outside is run: no pickle of anybody else's, no shell strings, no eval, found in the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for place in ("rirn", "kernels", "bench", "setup.py")
    for path in ([ROOT / place] if (ROOT / place).is_file() else (ROOT / place).rglob("*.py"))
)

BUILTINS = {"eval", "exec", "compile", "__import__"}
"""Run text as a program."""

FORBIDDEN = (
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "pickle.Unpickler",
    "torch.jit.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
    "tempfile.mktemp",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
)
FAMILIES = (
    "os.exec",
    "os.spawn",
    "pty.",
    "marshal.",
    "shelve.",
    "dill.",
    "joblib.",
    "torch.hub",
    "torch.package",
)
"""How names begin that are forbidden as well."""


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute of a name, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    return (
        f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) and dotted(node.value) else ""
    )


def imported(tree: ast.AST) -> dict[str, str]:
    """What each name that an import binds stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def problems(source: str) -> Iterator[str]:
    """A line on each thing in a program that runs, or lets others run, what it reads."""
    tree = ast.parse(source)
    names = imported(tree)

    def full(node: ast.AST) -> str:
        first, _, rest = dotted(node).partition(".")
        return ".".join(filter(None, (names.get(first, first), rest)))

    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            name = full(node)
            if name in FORBIDDEN or name.startswith(FAMILIES):
                yield f"line {node.lineno}: {name}"
        if not isinstance(node, ast.Call):
            continue
        name, options = full(node.func), {k.arg: k.value for k in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id in BUILTINS:
            yield f"line {node.lineno}: {node.func.id}"
        if name == "torch.load" and not _is(options.get("weights_only"), True):
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name in ("numpy.load", "np.load") and "allow_pickle" in options:
            yield f"line {node.lineno}: numpy.load with allow_pickle"
        if name.startswith("subprocess.") and name.partition(".")[2] in (
            "run",
            "Popen",
            "call",
            "check_call",
            "check_output",
        ):
            if "shell" in options and not _is(options["shell"], False):
                yield f"line {node.lineno}: a shell"
            if not node.args or isinstance(node.args[0], (ast.Constant, ast.JoinedStr, ast.BinOp)):
                yield f"line {node.lineno}: a command that is no list of words"


def _is(node: ast.AST | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_from_outside_is_run(path: Path) -> None:
    assert list(problems(path.read_text(encoding="utf-8"))) == []


def test_all_rooms_are_looked_at() -> None:
    assert len(SOURCES) > 100 and {p.parent.name for p in SOURCES} >= {
        "rirn",
        "video",
        "training",
        "bench",
        "kernels",
    }


@pytest.mark.parametrize(
    "line",
    (
        "eval('1')",
        "exec(text)",
        "import os; os.system('ls')",
        "from os import system; system('ls')",
        "import os; os.execv('a', ['a'])",
        "import pickle; pickle.load(file)",
        "from pickle import loads as f; f(b'')",
        "import pickle as p; p.Unpickler(file).load()",
        "import torch; torch.load(path)",
        "import torch; torch.load(path, weights_only=False)",
        "from torch import load; load(path)",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "import numpy as np; np.load(path, allow_pickle=True)",
        "import subprocess; subprocess.run('ls', check=True)",
        "import subprocess; subprocess.run(f'ls {x}', check=True)",
        "import subprocess; subprocess.run(words, shell=True)",
        "import subprocess; subprocess.Popen('a' + b)",
        "import marshal; marshal.loads(b'')",
    ),
)
def test_the_search_finds(line: str) -> None:
    assert list(problems(line))


@pytest.mark.parametrize(
    "line",
    (
        "model.eval()",
        "import torch; torch.compile(model)",
        "import re; re.compile('a')",
        "import torch; torch.load(path, weights_only=True)",
        "import yaml; yaml.safe_load(text)",
        "import pickle\ntry: f()\nexcept pickle.UnpicklingError: g()",
        "import subprocess; subprocess.run(['ls', x], check=True)",
        "import subprocess; subprocess.run(command, check=True)",
    ),
)
def test_the_search_lets_pass(line: str) -> None:
    assert list(problems(line)) == []
