"""Checkpoint files: whole or not there, a few of them, and no code in them."""

import os
import subprocess
import sys

import pytest
import torch

from rirn import RirnError
from rirn.training import checkpoint
from rirn.training.checkpoint import Checkpoints, read_checkpoint

# Files may not grow beyond 64 KiB: what a full disk does to the second checkpoint.
FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from rirn.errors import RirnError
from rirn.training.checkpoint import Checkpoints
checkpoints = Checkpoints(Path(sys.argv[1]))
checkpoints.save(1, {"step": 1, "weights": torch.ones(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    checkpoints.save(2, {"step": 2, "weights": torch.ones(1 << 20)})
except RirnError as error:
    print(error)
"""


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load() is None
    for step in (2, 9, 10):
        checkpoints.save(step, {"step": step})
    assert names(tmp_path) == ["checkpoint-00000009.pt", "checkpoint-00000010.pt"]
    assert checkpoints.load() == {"step": 10} and checkpoints.load("never") is None
    assert checkpoints.load(str(tmp_path / "checkpoint-00000009.pt")) == {"step": 9}
    checkpoints.save(5, {"step": 5})  # of a run that began again
    assert names(tmp_path) == ["checkpoint-00000005.pt"]


def test_full_disk_keeps_the_last_checkpoint(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot write the checkpoint" in done.stdout and "checkpoint-00000001.pt" in done.stdout
    assert names(tmp_path) == ["checkpoint-00000001.pt"]
    assert Checkpoints(tmp_path).load()["step"] == 1


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace", "torch.save"])
def test_failure_at_any_moment_keeps_the_last_checkpoint(tmp_path, monkeypatch, failing):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, fail)
    with pytest.raises(RirnError, match=r"No space left on device.*last good one is .*00000001.pt"):
        checkpoints.save(2, {"step": 2})
    assert names(tmp_path) == ["checkpoint-00000001.pt"] and checkpoints.load() == {"step": 1}


def test_killed_while_writing(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"step": 1})
    (tmp_path / "checkpoint-00000002.4711.part").write_bytes(b"half a che")
    assert checkpoints.load() == {"step": 1}
    checkpoints.save(2, {"step": 2})
    assert names(tmp_path) == ["checkpoint-00000001.pt", "checkpoint-00000002.pt"]


def test_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, type(tmp_path).replace
    monkeypatch.setattr(checkpoint.os, "fsync", lambda fd: (calls.append("sync"), sync(fd)))
    monkeypatch.setattr(type(tmp_path), "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    Checkpoints(tmp_path).save(1, {"step": 1})
    assert calls == ["sync", "rename", "sync"]  # the file, its name, the folder


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = tmp_path / "checkpoint-00000001.pt"
    with path.open("wb") as file:
        torch.save({"step": Evil()}, file)
    with pytest.raises(RirnError, match="not a whole checkpoint"):
        read_checkpoint(path)
    assert not (tmp_path / "owned").exists()
