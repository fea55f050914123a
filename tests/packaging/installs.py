"""Installing rirn as others will: wheels and sdists of a copy of the sources, in environments outside the checkout."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(torch.__file__).parents[1]  # where the packages of this environment lie
# What a build reads; the rest of the checkout (tests, documents) must not be needed.
SOURCES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "csrc",
    "kernels",
    "bench",
    "rirn",
)
BUILT = ("*.so", "__pycache__", "_build_info.json")
# Settings of this shell that would change what is built or run.
OWN = (
    "PYTHONPATH",
    "RIRN_BACKEND",
    "RIRN_CPU_ISA",
    "RIRN_BUILD_CPU",
    "RIRN_BUILD_CUDA",
    "RIRN_BUILD_SANITIZE",
    "RIRN_BUILD_TRITON",
)
QUICKLY = {"MAX_JOBS": "2", "RIRN_BUILD_TRITON": "0"}  # Triton's kernels take minutes: see test_setup.py


def _not_source(folder: str, names: list[str]) -> set[str]:
    """What ``copytree`` leaves out: what was built here, and links, which no checkout holds."""
    links = {name for name in names if (Path(folder) / name).is_symlink()}
    return links | shutil.ignore_patterns(*BUILT)(folder, names)


def copy_sources(folder: Path) -> Path:
    """Copy what a build reads to ``folder``, so that the checkout stays as it is; nothing compiled comes along."""
    folder.mkdir(parents=True)
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=_not_source)
        else:
            shutil.copy(path, folder / name)
    return folder


def environment(**settings: str) -> dict[str, str]:
    """The variables of this process less its own settings of rirn, with ``settings``."""
    return {k: v for k, v in os.environ.items() if k not in OWN} | settings


@dataclass
class Done:
    """A command that succeeded: what it printed, and its time in seconds (``cpu``: of all its processes)."""

    text: str
    wall: float
    cpu: float


def run(command: Sequence[str | Path], cwd: Path, **settings: str) -> Done:
    """Run a command; one that fails raises AssertionError with what it printed."""
    started = os.times().elapsed, resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=False,
    )
    wall, used = os.times().elapsed - started[0], resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    cpu = used.ru_utime + used.ru_stime - started[1].ru_utime - started[1].ru_stime
    return Done(done.stdout + done.stderr, wall, cpu)


def build_wheel(folder: Path, source: Path | None = None, **switches: str) -> Path:
    """Build the wheel of ``source`` (a folder or an sdist; unless given, a copy of the sources) against the torch here."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    run([*command, source or copy_sources(folder / "source")], folder, **QUICKLY | switches)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_sdist(folder: Path) -> Path:
    """Build the sdist, by way of the hook that pip and others call."""
    code = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run([sys.executable, "-c", code, folder], copy_sources(folder / "source"))
    (sdist,) = folder.glob("*.tar.gz")
    return sdist


class Environment:
    """A virtual environment that borrows the packages of this one, but for rirn and those named in ``without``."""

    def __init__(self, folder: Path, without: Sequence[str] = ()):
        venv.EnvBuilder(symlinks=True).create(folder)
        self.folder, self.python = folder.resolve(), folder.resolve() / "bin" / "python"
        (self.site,) = (self.folder / "lib").glob("python*/site-packages")
        borrowed = self.folder / "borrowed"
        borrowed.mkdir()
        hidden = ("rirn", "__editable__", "__pycache__", "pip", "distutils-precedence", *without)
        for path in SITE.iterdir():
            if not path.name.startswith(hidden):
                (borrowed / path.name).symlink_to(path)
        (self.site / "borrowed.pth").write_text(f"{borrowed}\n")

    def install(self, *arguments: str | Path, **switches: str) -> Done:
        """Install with the pip of this environment; ``arguments`` are those of ``pip install``."""
        pip = [sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check"]
        # With the scripts of this environment on PATH, as after activating it: builds call ninja.
        path = os.pathsep.join(
            [str(self.python.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        return run(
            [*pip, "install", "--no-compile", *arguments],
            self.folder,
            **{"PATH": path} | QUICKLY | switches,
        )

    def run(self, code: str, **settings: str) -> str:
        """Run Python code outside the checkout and return what it prints."""
        return run([self.python, "-c", code], self.folder, **settings).text.strip()

    def run_tests(self, *select: str, **settings: str) -> str:
        """Run a copy of the tests against what is installed here, and return what pytest prints."""
        for name in ("tests", "csrc", "kernels", "docs"):  # some tests read sources and pages
            shutil.rmtree(self.folder / name, ignore_errors=True)
            shutil.copytree(ROOT / name, self.folder / name, ignore=_not_source)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        return run([self.python, "-m", "pytest", "-q", *select], self.folder, **settings).text
