"""ARCHITECTURE.md is true: its rooms exist, they are all there are, and each imports only what its row allows."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
SOURCE_SUFFIXES = (".py", ".cpp", ".h", ".cu", ".cuh")
MAPPED = {"kernels": "rirn.kernels", "bench": "rirn.bench"}
"""Folders that setup.py maps into the package."""
ALL = "rirn"
ANYONE = {"rirn.errors", "rirn.files", "rirn.lazy", "rirn.version"}
"""What every room may import besides what its row says."""


class Room(NamedTuple):
    """A row of the table of rooms."""

    paths: tuple[str, ...]
    allowed: frozenset[str]  # modules and packages, those inside them included

    @property
    def modules(self):
        return tuple(module_of(path) for path in self.paths)


def module_of(path):
    """'rirn/ops/' -> 'rirn.ops', 'bench/timing.py' -> 'rirn.bench.timing', 'rirn/__init__.py' -> 'rirn.__init__'."""
    parts = path.rstrip("/").removesuffix(".py").split("/")
    return ".".join([MAPPED.get(parts[0], parts[0]), *parts[1:]])


def rooms():
    """The rows in their order, which goes up the house."""
    rows = re.findall(r"^\| (`[^|]*) \| [^|]* \| ([^|]*) \|$", TEXT, re.MULTILINE)
    found = []
    for names, may_import in rows:
        allowed = {f"rirn.{name}" for name in re.findall(r"`([\w.]+)`", may_import)}
        found.append(
            Room(
                tuple(re.findall(r"`([^`]+)`", names)),
                frozenset({ALL} if may_import == "everything" else allowed),
            )
        )
    return found


ROOMS = rooms()
PYTHON = [room for room in ROOMS if room.modules[0].startswith("rirn")]
PLACE = {module: place for place, room in enumerate(PYTHON) for module in room.modules}


def inside(module, package):
    return module == package or module.startswith(f"{package}.")


def room_of(module):
    """The room with the longest name that holds a module, so that a file can be a room of its own."""
    named = [name for name in PLACE if inside(module, name)]
    return PYTHON[PLACE[max(named, key=len)]] if named else None


def sources():
    """Files of the package by module; a package's own file is ``<package>.__init__``."""
    for folder in ("rirn", *MAPPED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT)
            if place.parts[:2] not in {("rirn", name) for name in MAPPED}:  # links of a development tree
                yield module_of(place.as_posix()), path


SOURCES = dict(sources())


def is_module(name):
    return name in SOURCES or f"{name}.__init__" in SOURCES


def imports(path):
    """Modules of ours that a file imports, wherever in it, and those that importlib gets by a literal name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if inside(alias.name, ALL))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if inside(node.module, ALL):
                for alias in node.names:
                    name = f"{node.module}.{alias.name}"
                    yield name if is_module(name) else node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            literal = ast.unparse(node.args[0]).lstrip("f").strip("'\"").partition(".{")[0]
            if inside(literal, ALL):
                yield literal


def test_the_table_is_read():
    assert len(ROOMS) >= 15 and {"csrc/", "tests/"} <= {path for room in ROOMS for path in room.paths}
    assert {"rirn.ops", "rirn.kernels"} <= set(imports(SOURCES["rirn.ops._register"])) | {"rirn.ops"}


@pytest.mark.parametrize("path", [path for room in ROOMS for path in room.paths])
def test_rooms_exist(path):
    found = ROOT / path
    assert found.is_dir() if path.endswith("/") else found.is_file()


def test_every_module_has_a_room():
    assert [module for module in SOURCES if room_of(module) is None] == []


def test_every_folder_is_named():
    """Folders with sources right in them, so that what a build leaves behind is none."""
    sources = {path.parent.name for kind in ("py", "cpp", "md") for path in ROOT.glob(f"*/*.{kind}")}
    assert {"csrc", "docs", "tests", "rirn"} <= sources
    named = {path.partition("/")[0] for room in ROOMS for path in room.paths}
    assert {name for name in sources if not name.startswith(".")} <= named


@pytest.mark.parametrize("room", PYTHON, ids=lambda room: room.paths[0])
def test_what_a_row_allows_stands_above_it(room):
    place = PYTHON.index(room)
    for name in room.allowed - {ALL}:
        above = room_of(name)
        assert above is not None and is_module(name), f"there is no {name}"
        assert PYTHON.index(above) < place, (
            f"{room.paths[0]} may import {name}, which is further up the house"
        )


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module):
    room = room_of(module)
    assert room is not None, f"ARCHITECTURE.md has no row for {module}"
    outside = {name for name in imports(SOURCES[module]) if room_of(name) is not room} - ANYONE
    forbidden = {name for name in outside if not any(inside(name, allowed) for allowed in room.allowed)}
    assert forbidden == set(), f"the row of {room.paths[0]} in ARCHITECTURE.md does not allow these"


def test_imports_of_a_package_are_those_of_its_modules():
    """`rirn` itself is the way in for users; our own rooms name the room that they mean."""
    for module, path in SOURCES.items():
        room = room_of(module)
        if room is not None and room.allowed != {ALL}:
            assert ALL not in set(imports(path)), f"{module} imports from rirn"


INCLUDES = {
    "csrc/*.h": r"\.\./|cpu/|cuda/|cuda_|ATen|c10|pybind11",
    "csrc/cpu/**/*": r"cuda|ATen|c10|pybind11",
    "csrc/cuda/*.cuh": r"cpu/|torch/|ATen|c10",
    "csrc/cuda/*.cu": r"cpu/|ATen|c10|pybind11",
}
"""Sources, and what none of them may include."""


@pytest.mark.parametrize("pattern", INCLUDES)
def test_includes_keep_to_their_room(pattern):
    files = [path for path in ROOT.glob(pattern) if path.is_file()]
    assert files
    for path in files:
        included = re.findall(r'^#include [<"]([^>"]+)', path.read_text(encoding="utf-8"), re.MULTILINE)
        assert [name for name in included if re.search(INCLUDES[pattern], name)] == [], path


MOST_LINES = 500
MOST_OF_A_FUNCTION = 60
"""Lines, its signature and docstring not counted."""


def test_files_are_short():
    folders = ("bench", "csrc", "kernels", "rirn")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in SOURCE_SUFFIXES
    ]
    assert len(files) > 200
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


@pytest.mark.parametrize("module", SOURCES)
def test_functions_are_short(module):
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = node.end_lineno - body[0].lineno + 1 if body else 0
            assert length <= MOST_OF_A_FUNCTION, f"{node.name} has {length} lines"
