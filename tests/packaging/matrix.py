"""Every way to install rirn, each in an environment of its own outside the checkout: what one gets and how long it takes.

``python -m tests.packaging.matrix [WAY ...]`` prints the table of docs/install.md. All packages but rirn and those that
a way does without are borrowed from this environment, so that the time is that of rirn itself; with build isolation
pip sets up torch once more, to build against.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rirn.doctor import devices
from tests.packaging.installs import Environment, build_sdist, copy_sources


@dataclass(frozen=True)
class Way:
    """One way to install: from what, with which arguments for pip, in which surroundings."""

    what: str  # as in the table
    source: Callable[[Path], Path] = copy_sources  # puts what is installed into a new folder
    arguments: tuple[str, ...] = ("--no-build-isolation",)
    without: tuple[str, ...] = ()  # packages
    switches: dict[str, str] = field(default_factory=dict)


def _sdist(folder: Path) -> Path:
    folder.mkdir()
    return build_sdist(folder)


# RIRN_BUILD_CUDA=0 stands for a machine without nvcc: a toolkit in its default place cannot be hidden from here. That a missing
# one has the same effect is in test_setup.py. A PATH of one folder that does not exist has no compiler.
WAYS = {
    "isolation": Way(
        "`pip install rirn-*.tar.gz`, build isolation, no nvcc", _sdist, (), switches={"RIRN_BUILD_CUDA": "0"}
    ),
    "no-isolation": Way("`pip install --no-build-isolation .`"),
    "no-nvcc": Way("the same without nvcc", switches={"RIRN_BUILD_CUDA": "0"}),
    "no-compiler": Way("the same without a C++ compiler", switches={"PATH": "/nowhere", "CXX": ""}),
    "no-triton": Way(
        "the same without a compiler and without Triton",
        without=("triton",),
        switches={"PATH": "/nowhere", "CXX": ""},
    ),
}


def gets(found: dict) -> str:
    """What the report of doctor says runs, in words."""
    library, kernels = found["library"], found["kernels"]["atb_blend"]
    forms = [f"CPU kernels ({', '.join(library['build']['cpu_isas'])})"] if library["loaded"] else []
    forms += [f"CUDA kernels for {', '.join(kernels['cuda'])}"] if kernels["cuda"] else []
    forms += ["Triton kernels"] if found["versions"]["triton"] else []
    return ", ".join([*forms, "reference"])


def row(way: Way, folder: Path, source: Path | None = None) -> str:
    """Install in one way, restore a frame, and return the row of the table. ``source``: a wheel instead of the sources."""
    env = Environment(folder / "env", way.without)
    done = env.install(
        "-q", "--no-deps", *way.arguments, source or way.source(folder / "source"), **way.switches
    )
    found = json.loads(env.run("from rirn.cli import main; main(['doctor', '--json'])"))
    assert Path(found["install"]["folder"]).is_relative_to(env.site)
    env.run("import rirn, torch; rirn.load('rirn-small').step(torch.rand(1, 3, 24, 32), None)")
    return f"| {way.what} | {gets(found)} | {done.wall:.0f} s | {done.cpu:.0f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"{', '.join(WAYS)}; all unless named")
    parser.add_argument("--wheel", type=Path, help="a wheel, installed besides")
    args = parser.parse_args()
    ways = {name: WAYS[name] for name in args.ways or WAYS}
    if args.wheel:
        ways["wheel"] = Way("`pip install rirn-*.whl`", arguments=("--no-index",))
    cpu = devices()[0]
    print(f"{cpu['model']}, {cpu['cores']} logical processors\n")
    print("| way | what runs | time | processor time |\n|---|---|---|---|")
    for name, way in ways.items():
        with tempfile.TemporaryDirectory() as folder:
            print(row(way, Path(folder), args.wheel.resolve() if name == "wheel" else None), flush=True)


if __name__ == "__main__":
    main()
