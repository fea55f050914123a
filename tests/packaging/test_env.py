"""`make env` takes the build of torch that uv finds for the machine, and what pip finds where uv has none."""

import os
import shutil
import subprocess

import pytest

from tests.packaging.installs import ROOT


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not to be had")
@pytest.mark.parametrize("status, taken", [(0, "uv"), (2, "pip")])
@pytest.mark.parametrize("place", ["on PATH", "from pip"])
def test_who_brings_torch(status, taken, place, tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "csrc").mkdir()
    for name in ("pyproject.toml", "setup.py"):
        (tmp_path / name).touch()
    bin, log = tmp_path / ".venv" / "bin", tmp_path / "log"
    uv = f'echo uv "$@" >> {log}; exit {status}'
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("find", "touch", "sh", "echo"):  # and no uv of this machine
        (tools / name).symlink_to(shutil.which(name))
    program(bin / "python", 'echo "$@"')
    if place == "on PATH":
        program(tools / "uv", uv)
        program(bin / "pip", f'echo pip "$@" >> {log}')
    else:
        program(tmp_path / "uv", uv)
        program(
            bin / "pip", f'echo pip "$@" >> {log}; case "$*" in *uv) /bin/cp {tmp_path}/uv {bin}/uv;; esac'
        )
    done = subprocess.run(
        [shutil.which("make"), "env"],
        cwd=tmp_path,
        env=os.environ | {"PATH": str(tools)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    calls = log.read_text().splitlines()
    assert ("pip" in calls[0] and calls[0].endswith(" uv")) == (place == "from pip")
    (asked,) = (i for i, call in enumerate(calls) if call.startswith("uv "))
    assert "--torch-backend auto torch==" in calls[asked]
    assert calls[asked + 1].startswith("pip ") and " torch==" in calls[asked + 1]  # nothing to do after uv
    assert f"by {taken}" in done.stdout
