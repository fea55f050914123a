"""Processes under torchrun train what one process trains."""

import datetime
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from rirn import RirnError
from rirn.distributed import World, join_world, without_leftovers
from rirn.models.state import State
from rirn.training import OptimConfig, train
from tests.training.runs import config, losses, rows

# argv: data, out, and the step before which rank 1 dies once.
WORKER = """
import os, signal, sys
from pathlib import Path
import torch
from rirn.training import train
from rirn.training.learner import Learner
from tests.training.test_distributed import keep_gradients, settings
data, out, fatal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rank = int(os.environ["RANK"])
step, marker = Learner.step, out / "died"
def step_or_die(self, piece, number):
    if number == fatal and rank == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, piece, number)
Learner.step = step_or_die
with keep_gradients(out.with_suffix(f".{rank}.pt")):
    train(settings(data, out))
"""


def settings(data, out):
    """Chunks that carry a state, an average, and validation."""
    made = config(data, out, frames=6, chunk=3, val_every=4, optim=OptimConfig(lr=1e-3, steps=4, ema=0.5))
    made.data.val = [data]
    return made


class keep_gradients:
    """Write the gradients of the first two steps to a file."""

    def __init__(self, path):
        self.path, self.kept = path, []

    def __enter__(self):
        self.hook = register_optimizer_step_pre_hook(self.keep)

    def keep(self, optimizer, args, kwargs):
        if len(self.kept) < 2:
            self.kept.append([p.grad.clone() for p in optimizer.param_groups[0]["params"]])
            torch.save(self.kept, self.path)

    def __exit__(self, *exc_info):
        self.hook.remove()


def torchrun(data, out, fatal=-1, restarts=0):
    script = out.parent / "worker.py"
    script.write_text(WORKER)
    root = Path(__file__).parents[2]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, "--max-restarts", str(restarts), str(script), str(data), str(out), str(fatal)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_two_processes_equal_one_with_the_joint_batch(data, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with keep_gradients(one.with_suffix(".pt")):
        train(settings(data, one))
    done = torchrun(data, two)
    alone = torch.load(one.with_suffix(".pt"))
    shared = [torch.load(two.with_suffix(f".{rank}.pt")) for rank in range(2)]
    for step in range(2):  # the second one carries the state of its own share of the clips
        for a, b, c in zip(alone[step], shared[0][step], shared[1][step], strict=True):
            assert torch.equal(b, c)
            torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-5 * a.abs().max().item() + 1e-8)
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    # One log, one bar, one set of files; the scores of the sequences that each process validated come together.
    assert [row["processes"] for row in rows(two) if "processes" in row] == [2]
    assert {p.name for p in two.iterdir()} == {p.name for p in one.iterdir()}
    assert set(next(row for row in rows(two) if "psnr_out" in row)["sequences"]) == {"s0", "s1"}
    assert done.stderr.count("validation") == 1


@pytest.mark.slow
def test_torchrun_restarts_where_the_last_checkpoint_is(data, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    torchrun(data, whole)
    cut.mkdir()
    torchrun(data, cut, fatal=3, restarts=1)
    assert (cut / "died").exists()
    assert [row.get("resumed_at") for row in rows(cut) if "settings" in row] == [None, 2]
    for name in ("weights", "weights-last"):
        a, b = (load_file(out / f"{name}.safetensors") for out in (whole, cut))
        assert all(torch.equal(a[k], b[k]) for k in a)
    # The checkpoint of two processes serves one as well.
    for path in cut.glob("checkpoint-00000004.pt"):
        path.unlink()
    train(settings(data, cut))
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-4)


@pytest.mark.parametrize("size", [2, 3])
def test_restarted_processes_meet_apart_from_what_dead_ones_left(size):
    store, soon = dist.HashStore(), datetime.timedelta(seconds=60)
    with ThreadPoolExecutor(size) as pool:
        for attempt in range(3):
            # The last comes first, and finds what it and the others left before.
            made = [pool.submit(without_leftovers, store, rank, size, soon) for rank in reversed(range(size))]
            stores = [m.result() for m in made]
            assert not stores[0].check(["address"])
            stores[0].set("address", str(attempt))
            assert [s.get("address") for s in stores] == [str(attempt).encode()] * size
        # One that died after it had asked.
        store.set("rirn/asks/1", "dead")
    with pytest.raises(RirnError, match=f"{size - 1} of {size} processes did not come"):
        without_leftovers(store, 0, size, datetime.timedelta(seconds=0.1))


def test_one_process_is_a_world_too():
    with join_world("cpu") as world:
        assert world.main and world.size == 1
        assert world.mean([1.0, 2.0]) == [1, 2] and world.gather("x") == ["x"]
        assert world.collect({3: "d", 1: "b"}) == ["b", "d"]
        state = State(base=(torch.ones(2, 1, 1, 1),))
        assert torch.equal(world.gather_state(state).base[0], state.base[0])
        module = torch.nn.Linear(1, 1)
        assert world.wrap(module) is module


@pytest.mark.parametrize("device", ["cuda:99", "tpuu"])
def test_missing_device_is_one_sentence(device):
    with pytest.raises(RirnError, match=device), join_world(device):
        pass


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_processes_do_not_share_a_gpu(monkeypatch, device):
    for name, value in {"RANK": 2, "LOCAL_RANK": 2, "WORLD_SIZE": 3}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RirnError, match="cuda:2, torch sees 2 GPUs"), join_world(device):
        pass


def test_shares():
    assert World(torch.device("cpu"), 1, 4).share(8) == 2
