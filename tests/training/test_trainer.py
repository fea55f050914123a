"""Training: it learns, fused ops and reference agree, a run that was cut off goes on exactly."""

import itertools
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rirn import RirnError, load
from rirn.data import Shake, shake_photo, write_sequence
from rirn.data.clips import ClipDataset
from rirn.data.sequences import find_sequences
from rirn.models import create_model
from rirn.ops import why_not
from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig, train
from rirn.training.checkpoint import NAME, load_checkpoint, save_checkpoint
from rirn.training.losses import psnr_loss
from rirn.training.trainer import learning_rate
from rirn.weights import save_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    photo = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    for i in range(2):
        pairs = shake_photo(
            photo, np.random.default_rng(i), size=(48, 56), frames=6, shake=Shake(tremor=3, drift=1)
        )
        write_sequence(folder / f"s{i}", pairs)
    return folder


def config(data, out, **changes):
    settings = {
        "model": ModelConfig("ifi-rnn+rirn", width=0.2, residual=True),
        "optim": OptimConfig(lr=1e-3, steps=4, warmup=2),
        "save_every": 2,
        **changes,
    }
    return TrainConfig(out=out, data=DataConfig(train=[data], frames=3, crop=32, batch=2), **settings)


def losses(out):
    return [
        row["loss"] for row in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in row
    ]


def test_training_with_fused_ops_equals_training_with_the_reference(data, tmp_path):
    if reason := why_not("cpu", "irm_update"):
        pytest.skip(reason)
    optim = OptimConfig(lr=1e-3, steps=30, warmup=2)
    for backend in ("reference", "auto"):
        train(config(data, tmp_path / backend, backend=backend, optim=optim))
    reference, fused = (np.array(losses(tmp_path / b)) for b in ("reference", "auto"))
    assert len(reference) == 30 and np.isfinite(reference).all()
    # Rounding differs and 30 Adam steps amplify it: worst relative difference seen 3e-4.
    assert np.abs(fused - reference).max() <= 3e-3 * reference.max()
    assert not np.array_equal(fused, reference)  # else the fused ops did not run


def test_it_learns(tmp_path):
    # A dimmed picture is a flaw that a tiny network mends within seconds.
    sharp = [np.full((40, 40, 3), 90 + 20 * i, np.uint8) for i in range(5)]
    write_sequence(tmp_path / "dim", [(s - 50, s) for s in sharp])
    settings = config(tmp_path / "dim", tmp_path / "out", optim=OptimConfig(lr=2e-2, steps=60, warmup=5))
    weights = train(settings)
    history = losses(tmp_path / "out")
    assert history[0] == pytest.approx(50 / 255, rel=1e-3)  # a residual model starts as the identity
    assert np.mean(history[-5:]) < 0.5 * history[0]
    assert load(weights).config["width"] == 0.2


def test_resumed_equals_uninterrupted(data, tmp_path):
    whole = train(config(data, tmp_path / "whole"))
    out = tmp_path / "cut"
    # A process that is killed after its second step, as hard as can be, and a second one that goes on.
    script = f"""
import os, signal
from pathlib import Path
from rirn.training import *
from rirn.training import trainer
save = trainer.save_checkpoint
def save_and_die(folder, content):
    save(folder, content)
    os.kill(os.getpid(), signal.SIGKILL)
trainer.save_checkpoint = save_and_die
train(TrainConfig(out=Path({str(out)!r}), data=DataConfig(train=[Path({str(data)!r})], frames=3, crop=32, batch=2),
      model=ModelConfig("ifi-rnn+rirn", width=0.2, residual=True), optim=OptimConfig(lr=1e-3, steps=4, warmup=2), save_every=2))
"""
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "weights.safetensors").exists()
    resumed = train(config(data, out))
    a, b = load_file(whole), load_file(resumed)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert losses(tmp_path / "whole") == losses(out)


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn+rirn"])  # the second looks two frames ahead
def test_chunks_carry_the_state(data, tmp_path, name):
    # With a learning rate of nothing the network stays as it is, so that the chunks of a clip must give the
    # errors of its frames in one long run.
    model = ModelConfig(name, width=0.2, residual=True, start=tmp_path / "start.safetensors")
    torch.manual_seed(3)
    network = create_model(name, width=0.2, residual=True)
    # A residual model starts as the identity, which depends on no state.
    torch.nn.init.normal_(network.base.output_layer.weight, std=0.1)
    save_weights(network, model.start)
    settings = config(data, tmp_path / "out", model=model, optim=OptimConfig(lr=1e-30, steps=4))
    settings.data = DataConfig(train=[data], frames=6, chunk=3, crop=32, batch=1)
    train(settings)
    clips = ClipDataset(find_sequences(data), frames=6, crop=32, seed=0)
    expected = []
    for i in range(2):
        blurry, sharp = clips[i]
        with torch.no_grad():
            difference = (network(blurry[None])[0] - sharp).abs().mean((1, 2, 3))
        split = 3 - network.delay
        expected += [difference[:split].mean().item(), difference[split:].mean().item()]
    assert losses(tmp_path / "out") == pytest.approx(expected, rel=1e-4)


def test_chunked_run_resumes_within_a_clip(data, tmp_path):
    def chunked(out, **changes):
        settings = config(data, out, optim=OptimConfig(lr=1e-3, steps=4, warmup=2), **changes)
        settings.data = DataConfig(train=[data], frames=6, chunk=2, crop=32, batch=2)
        return settings

    whole = load_file(train(chunked(tmp_path / "whole")))
    # Killed as step 4 begins: the newest checkpoint is that of step 2, in the middle of the first clip.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClipDataset, "__getitem__", fail_at_call(ClipDataset.__getitem__, 7))
        with pytest.raises(KeyboardInterrupt):
            train(chunked(tmp_path / "cut", save_every=2))
    assert load_checkpoint(tmp_path / "cut")["step"] == 2
    resumed = load_file(train(chunked(tmp_path / "cut", save_every=2)))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def fail_at_call(function, number):
    """``function``, interrupted when it is called for the given time."""
    calls = itertools.count(1)

    def wrapped(*args):
        if next(calls) == number:
            raise KeyboardInterrupt
        return function(*args)

    return wrapped


def test_fine_tuning_starts_from_the_weights(data, tmp_path):
    first = train(config(data, tmp_path / "first"))
    tuned = ModelConfig("ifi-rnn+rirn", width=0.2, residual=True, start=first)
    still = config(data, tmp_path / "still", model=tuned, optim=OptimConfig(lr=1e-30, steps=1))
    a, b = load_file(first), load_file(train(still))
    assert all(torch.equal(a[k], b[k]) for k in a)
    save_weights(create_model("gru", width=1), tmp_path / "gru.safetensors")
    same = ModelConfig("gru", width=1.0, start=tmp_path / "gru.safetensors")  # said in other words
    again = config(data, tmp_path / "gru", model=same, optim=OptimConfig(lr=1e-30, steps=1))
    train(again)
    same.start.unlink()
    train(again)  # from the checkpoint
    other = ModelConfig("ifi-rnn+irm", width=0.2, residual=True, start=first)
    with pytest.raises(RirnError, match="belong to the model"):
        train(config(data, tmp_path / "other", model=other))


def test_psnr_loss_weighs_frames_alike():
    sharp = torch.zeros(1, 2, 3, 8, 8)
    restored = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.4)])[None].requires_grad_()
    psnr_loss(restored, sharp).backward()
    slight, heavy = restored.grad.abs().mean((0, 2, 3, 4))
    assert slight / heavy == pytest.approx(4, rel=0.05)  # d log(e^2) = 2 de / e
    assert psnr_loss(sharp, sharp).item() == pytest.approx(0.02 * np.log(1e-4))


def test_resuming_other_settings_is_refused(data, tmp_path):
    train(config(data, tmp_path))
    with pytest.raises(RirnError, match="belongs to other settings"):
        train(config(data, tmp_path, seed=1))
    other = config(data, tmp_path)
    other.data.batch = 3
    with pytest.raises(RirnError, match="belongs to other settings"):
        train(other)
    train(config(data, tmp_path, seed=1, resume=False))


def test_damaged_checkpoint_is_one_sentence(data, tmp_path):
    train(config(data, tmp_path))
    path = tmp_path / NAME
    content = path.read_bytes()
    for damaged in (b"", b"text", content[: len(content) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(RirnError, match="checkpoint"):
            train(config(data, tmp_path))


def test_failed_save_keeps_the_last_checkpoint(tmp_path):
    save_checkpoint(tmp_path, {"step": 1})
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(AttributeError):
        save_checkpoint(tmp_path, {"step": lambda: 2})  # cannot be pickled
    assert (tmp_path / NAME).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [NAME]


def test_checkpoints_run_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    with (tmp_path / NAME).open("wb") as file:
        torch.save({"step": Evil()}, file)
    with pytest.raises(RirnError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "owned").exists()


def test_validation_is_logged(data, tmp_path):
    settings = config(data, tmp_path, val_every=2)
    settings.data.val = [data]
    train(settings)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = [(r["step"], set(r["sequences"])) for r in rows if "psnr_out" in r]
    assert found == [(1, {"s0", "s1"}), (3, {"s0", "s1"})]


def test_learning_rate_rises_then_falls_to_zero():
    optim = OptimConfig(lr=1.0, steps=110, warmup=10)
    rates = [learning_rate(optim, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.5) and rates[109] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize(
    "change", [{"save_every": 0}, {"optim": OptimConfig(lr=-1)}, {"optim": OptimConfig(steps=0)}]
)
def test_impossible_settings_are_named(data, tmp_path, change):
    with pytest.raises(RirnError, match="must be positive"):
        config(data, tmp_path, **change)


def test_unknown_loss_and_uneven_chunks_are_named(data, tmp_path):
    with pytest.raises(RirnError, match=r"optim.loss must be one of l1, psnr; got 'l2'"):
        config(data, tmp_path, optim=OptimConfig(loss="l2"))
    with pytest.raises(RirnError, match=r"data.chunk must divide data.frames, now 6; got 4"):
        TrainConfig(out=tmp_path, data=DataConfig(train=[data], frames=6, chunk=4))
    ahead = config(data, tmp_path, model=ModelConfig("strcnn", width=0.2))
    ahead.data = DataConfig(train=[data], frames=6, chunk=2, crop=32, batch=1)
    with pytest.raises(RirnError, match="more than the 2 frames that strcnn looks ahead; got 2"):
        train(ahead)
