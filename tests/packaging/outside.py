"""Runs tests against a wheel installed outside the checkout: ``python -m tests.packaging.outside WHEEL``."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.packaging.installs import Environment

# Kernels against the reference, gradients, opcheck, and what stands on them, plugins of one's own among it.
TESTS = ("tests/ops", "tests/nn", "tests/weights", "tests/test_doctor.py", "tests/test_plugins.py")
TORCH = ("torch", "functorch", "triton", "nvidia")  # packages that come and go with a build of torch


def check(wheel: Path, torch: Sequence[str], select: Sequence[str], folder: Path) -> str:
    """Install ``wheel`` and, if arguments for pip are given, another torch; run the tests. Return what to tell."""
    env = Environment(folder, without=TORCH if torch else ())
    if torch:
        env.install("-q", *torch)
    env.install("-q", "--no-deps", wheel)
    found = json.loads(env.run("from rirn.cli import main; main(['doctor', '--json'])"))
    assert Path(found["install"]["folder"]).is_relative_to(env.site), found["install"]
    assert found["library"]["loaded"], found["library"]["why_not"]
    counts = env.run_tests("-p", "no:cacheprovider", "-m", "not slow", *select).strip().splitlines()[-1]
    kernels = ", ".join(found["library"]["build"]["cpu_isas"])
    return f"torch {found['versions']['torch']}: {counts} (CPU kernels: {kernels}, here {found['library']['isa']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument(
        "--torch",
        action="append",
        default=[],
        metavar="ARGUMENTS",
        help="arguments of pip install for another torch, such as 'torch==2.14.1'; may be repeated; else the torch of "
        "this environment",
    )
    parser.add_argument("--tests", nargs="*", default=TESTS, help="files, folders and options for pytest")
    args = parser.parse_args()
    for torch in args.torch or [""]:
        with tempfile.TemporaryDirectory() as folder:
            print(check(args.wheel.resolve(), torch.split(), args.tests, Path(folder) / "env"), flush=True)


if __name__ == "__main__":
    main()
