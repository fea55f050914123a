"""A run that was cut off goes on exactly, and never loses its last good checkpoint."""

import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from rirn import RirnError
from rirn.data import Source
from rirn.data.clips import ClipDataset
from rirn.training import ModelConfig, OptimConfig, train
from rirn.training.checkpoint import Checkpoints, read_checkpoint
from rirn.training.results import is_trained
from tests.training.runs import config, losses, rows

# A process that is killed as soon as its first checkpoint, after the second step, is on the disk.
DIE_AFTER_SAVING = """
import os, signal, sys
from pathlib import Path
from rirn.training import train
from rirn.training.checkpoint import Checkpoints
from tests.training.test_resume import settings
save = Checkpoints.save
def save_and_die(self, step, content):
    save(self, step, content)
    os.kill(os.getpid(), signal.SIGKILL)
Checkpoints.save = save_and_die
train(settings(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
"""


def settings(kind, data, out):
    """Four steps, a checkpoint after two."""
    if kind == "plain":
        return config(data, out)
    if kind == "muon":
        return config(data, out, optim=OptimConfig(name="muon", lr=1e-3, steps=4, warmup=2))
    # Everything that has a moment or is random, and the checkpoint in the middle of a clip.
    optim = OptimConfig(lr=1e-3, steps=4, warmup=2, ema=0.9)
    return config(data, out, optim=optim, precision="fp16", frames=6, chunk=2, workers=1)


@pytest.mark.parametrize("kind", ["plain", "muon", "ema-fp16-chunks-workers"])
def test_two_steps_then_kill_then_two_equal_four(data, tmp_path, kind):
    whole = train(settings(kind, data, tmp_path / "whole"))
    out = tmp_path / "cut"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(
        [sys.executable, "-c", DIE_AFTER_SAVING, kind, str(data), str(out)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [p.name for p in Checkpoints(out).paths()] == ["checkpoint-00000002.pt"]
    assert not (out / "weights.safetensors").exists()
    train(settings(kind, data, out))
    for file in tmp_path.glob("whole/*.safetensors"):
        assert_equal(load_file(file), load_file(out / file.name))
    assert whole.exists() and losses(tmp_path / "whole") == losses(out)
    # Not the weights alone: the optimiser, the average, the scale of the loss and the generators too.
    ends = [read_checkpoint(Checkpoints(folder).paths()[-1]) for folder in (tmp_path / "whole", out)]
    assert ends[0]["step"] == 4
    assert_equal(*ends)
    assert [row.get("resumed_at") for row in rows(out) if "settings" in row] == [None, 2]


def assert_equal(a, b):
    """The same values in the same places, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for pair in zip(a, b, strict=True):
            assert_equal(*pair)
    else:
        assert a == b


def test_interrupted_between_checkpoints(data, tmp_path, monkeypatch):
    whole = load_file(train(settings("plain", data, tmp_path / "whole")))
    with monkeypatch.context() as patch:
        patch.setattr(ClipDataset, "__getitem__", fail_at_call(ClipDataset.__getitem__, 7))
        with pytest.raises(KeyboardInterrupt):  # in the fourth step: the third is lost
            train(settings("plain", data, tmp_path / "cut"))
    assert len(losses(tmp_path / "cut")) == 3
    assert_equal(whole, load_file(train(settings("plain", data, tmp_path / "cut"))))
    assert len(losses(tmp_path / "cut")) == 4


def fail_at_call(function, number):
    """``function``, interrupted when it is called for the given time."""
    calls = itertools.count(1)

    def wrapped(*args):
        if next(calls) == number:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


def test_resume_from_a_path_or_never(data, tmp_path):
    train(config(data, tmp_path / "run", save_every=1, keep=3))
    paths = Checkpoints(tmp_path / "run").paths()
    assert [p.name[-5:] for p in paths] == ["02.pt", "03.pt", "04.pt"]
    whole = load_file(tmp_path / "run" / "weights.safetensors")
    other = config(data, tmp_path / "other", resume=str(paths[0]))
    assert_equal(whole, load_file(train(other)))
    assert [row["step"] for row in rows(tmp_path / "other") if "loss" in row] == [2, 3]
    train(config(data, tmp_path / "run", seed=1, resume="never", optim=OptimConfig(steps=2)))
    assert [p.name[-5:] for p in Checkpoints(tmp_path / "run").paths()] == ["02.pt"]  # none of the old run
    with pytest.raises(RirnError, match=r"there is no checkpoint nothing\.pt"):
        train(config(data, tmp_path / "run", resume="nothing.pt"))


def test_resuming_other_settings_is_refused(data, tmp_path):
    train(config(data, tmp_path))
    others = {
        "seed was 0 and is 1": {"seed": 1},
        "data.batch was 2 and is 3": {"batch": 3},
        "precision was 'fp32' and is 'bf16'": {"precision": "bf16"},
        r"optim.lr was 0.001 and is 0.002 \(and optim.warmup\)": {
            "optim": OptimConfig(lr=2e-3, steps=4, warmup=1)
        },
        r"optim.lr was 0.001 and is 0.002; give": {"optim": OptimConfig(lr=2e-3, steps=6, warmup=2)},
        r"optim.steps was 4 and is 3": {"optim": OptimConfig(lr=1e-3, steps=3, warmup=2)},
        "model.name was 'ifi-rnn\\+rirn' and is 'ifi-rnn'": {
            "model": ModelConfig("ifi-rnn", width=0.2, residual=True)
        },
    }
    for message, other in others.items():
        with pytest.raises(RirnError, match=f"belongs to other settings: {message}"):
            train(config(data, tmp_path, **other))


@pytest.mark.parametrize("kind", ["plain", "sharp", "highspeed"])
def test_as_many_clips_of_other_sequences_are_refused(data, tmp_path, kind):
    folder = tmp_path / "data"
    shutil.copytree(data, folder)

    def run():
        made = config(folder, tmp_path / "out")
        made.data.train = [folder if kind == "plain" else Source(folder, kind)]
        return train(made)

    run()
    (folder / "s1").rename(folder / "s2")
    with pytest.raises(RirnError, match="names or lengths of the sequences differ"):
        run()


def test_a_checkpoint_without_options_added_since_is_resumed(data, tmp_path):
    whole = load_file(train(config(data, tmp_path / "whole")))
    content = read_checkpoint(Checkpoints(tmp_path / "whole").paths()[0])
    optim = content["identity"][1]
    assert content["step"] == 2 and optim.pop("rates") == {} and optim.pop("name") == "adam"
    assert content["identity"][2].pop("split") is None and content["identity"][2].pop("sequences")
    torch.save(content, tmp_path / "before.pt")
    resumed = train(config(data, tmp_path / "resumed", resume=str(tmp_path / "before.pt")))
    assert_equal(whole, load_file(resumed))
    rates = OptimConfig(lr=1e-3, steps=4, warmup=2, rates={"irm": 2.0})
    with pytest.raises(RirnError, match=r"other settings: optim.rates was \{\} and is \{'irm': 2.0\}"):
        train(config(data, tmp_path / "other", resume=str(tmp_path / "before.pt"), optim=rates))


def test_a_run_can_be_lengthened(data, tmp_path, capsys):
    train(config(data, tmp_path))
    capsys.readouterr()
    longer = OptimConfig(lr=1e-3, steps=6, warmup=2)
    train(config(data, tmp_path, optim=longer, print_every=1))
    error = capsys.readouterr().err
    assert (
        "lengthened from 4 to 6 steps" in error
        and "step 5 of 6: loss" in error
        and "step 4 of 6" not in error
    )
    assert len(losses(tmp_path)) == 6
    train(config(data, tmp_path, optim=longer))  # it is done
    assert len(losses(tmp_path)) == 6


def test_a_run_can_be_shortened_to_what_is_ahead(data, tmp_path, capsys):
    train(config(data, tmp_path / "whole"))
    halfway = Checkpoints(tmp_path / "whole").paths()[0]
    capsys.readouterr()

    def resume(name, steps):
        optim = OptimConfig(lr=1e-3, steps=steps, warmup=2)
        return train(config(data, tmp_path / name, optim=optim, resume=str(halfway)))

    resume("short", 3)
    assert "shortened from 4 to 3 steps" in capsys.readouterr().err
    assert len(losses(tmp_path / "short")) == 1
    with pytest.raises(RirnError, match=r"optim\.steps was 4 and is 2; give"):
        resume("past", 2)


def test_weights_of_a_run_that_is_being_lengthened_are_not_its_own(data, tmp_path):
    def stop(step, figures, model):
        if step == 5:
            raise KeyboardInterrupt

    longer = config(data, tmp_path, optim=OptimConfig(lr=1e-3, steps=6, warmup=2))
    assert not is_trained(longer)
    train(config(data, tmp_path))
    assert is_trained(config(data, tmp_path))
    with pytest.raises(KeyboardInterrupt):
        train(longer, callbacks=[stop])
    assert not is_trained(longer)
    train(longer)
    train(longer)  # does nothing
    assert is_trained(longer)


def test_damaged_checkpoint_gives_way_to_the_one_before(data, tmp_path, capsys):
    whole = load_file(train(config(data, tmp_path)))
    first, newest = Checkpoints(tmp_path).paths()
    content = newest.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        newest.write_bytes(damaged)
        assert_equal(whole, load_file(train(config(data, tmp_path))))
        assert "not a whole checkpoint" in capsys.readouterr().err
    for path in (first, newest):
        path.write_bytes(b"text")
    with pytest.raises(RirnError, match="not a whole checkpoint"):
        train(config(data, tmp_path))
