"""The loop: it learns, chunks carry the state, weights can be gone on from, validations are logged."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rirn import RirnError, load
from rirn.data import Shake, shake_photo, write_sequence
from rirn.data.clips import ClipDataset
from rirn.data.sequences import find_sequences
from rirn.models import create_model
from rirn.training import ModelConfig, OptimConfig, train
from rirn.training.losses import psnr_loss
from rirn.weights import save_weights
from tests.training.runs import config, losses, rows


def test_it_learns_a_clip(tmp_path):
    # Blur of one speed, along one side: the least that a tiny network can undo within seconds.
    coarse = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pan = Shake(tremor=0, drift=0, jerk_rate=0, pan=(5, 7))
    photo = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    pairs = list(shake_photo(photo, np.random.default_rng(0), size=(32, 32), frames=3, shake=pan))
    write_sequence(tmp_path / "pan", pairs)
    steps = OptimConfig(loss="psnr", lr=5e-3, steps=60, warmup=5)
    weights = train(config(tmp_path / "pan", tmp_path / "out", optim=steps, batch=1, save_every=60))
    history = losses(tmp_path / "out")
    blurry, sharp = (
        torch.from_numpy(np.stack(side)).movedim(-1, 1) / 255 for side in zip(*pairs, strict=True)
    )
    before = psnr_loss(blurry[None], sharp[None]).item()
    assert history[0] == pytest.approx(before, rel=1e-3)  # a residual model starts as the identity
    one_decibel = 0.02 * np.log(10) / 10
    assert np.mean(history[-5:]) < before - one_decibel  # it is about two
    assert load(weights).config["width"] == 0.2


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
    optim = OptimConfig(lr=1e-30, steps=4)
    train(config(data, tmp_path / "out", model=model, optim=optim, frames=6, chunk=3, batch=1))
    clips = ClipDataset(find_sequences(data), frames=6, crop=32, seed=0)
    expected = []
    for i in range(2):
        blurry, sharp = clips[i]
        with torch.no_grad():
            difference = (network(blurry[None])[0] - sharp).abs().mean((1, 2, 3))
        split = 3 - network.delay
        expected += [difference[:split].mean().item(), difference[split:].mean().item()]
    assert losses(tmp_path / "out") == pytest.approx(expected, rel=1e-4)


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


def test_settings_that_are_not_given_are_those_of_the_weights(data, tmp_path):
    file = tmp_path / "start.safetensors"
    start = create_model(
        "ifi-rnn+irm", width=0.2, variant="C1H2", blocks=2, past=1, residual=True, half_resolution=True
    )
    save_weights(start, file)
    settings = config(
        data, tmp_path / "out", model=ModelConfig(start=file), optim=OptimConfig(lr=1e-30, steps=1)
    )
    tuned = load(train(settings))
    assert tuned.config | {"name": "ifi-rnn+irm"} == tuned.config
    # Adam moves what is zero by the learning rate.
    assert all(
        torch.allclose(a, b, atol=1e-20) for a, b in zip(tuned.parameters(), start.parameters(), strict=True)
    )
    saved = (tmp_path / "out" / "config.yaml").read_text()
    assert "name: ifi-rnn+irm" in saved and "width: 0.2" in saved and "half_resolution: true" in saved
    file.unlink()
    train(settings)  # from the checkpoint, which has them, too


def test_options_without_a_setting_are_those_of_the_weights(data, tmp_path):
    options = {"input_shift": 0.0}
    save_weights(create_model("stfan", width=0.2, **options), tmp_path / "start.safetensors")
    model = ModelConfig(start=tmp_path / "start.safetensors")
    settings = config(data, tmp_path / "out", model=model, optim=OptimConfig(lr=1e-30, steps=1), frames=6)
    assert options.items() <= load(train(settings)).config.items()
    train(settings)  # from the checkpoint


def test_fine_tuning_of_weights_that_ship_takes_their_name_alone(data, tmp_path):
    optim = OptimConfig(lr=1e-30, steps=1)
    weights = train(config(data, tmp_path / "out", model=ModelConfig(start="rirn-tiny"), optim=optim))
    assert load(weights).config == load("rirn-tiny").config


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "message"),
    [
        (
            "stfan",
            {"input_shift": 0.0},
            {"options": {"input_shift": 0.5}},
            r"input_shift 0.0, not of .* input_shift 0.5",
        ),
        (
            "strcnn",
            {"ends": "drop"},
            {},
            "strcnn with ends='drop' gives no image for the first and last frames",
        ),
        ("ifi-rnn", {}, {"variant": "C1H2"}, r"variant C1H1, not of .* variant C1H2"),
    ],
)
def test_weights_that_compute_something_else_are_no_start(data, tmp_path, name, theirs, ours, message):
    file = tmp_path / "start.safetensors"
    save_weights(create_model(name, width=0.2, **theirs), file)
    model = ModelConfig(name, width=0.2, start=file, **ours)
    with pytest.raises(RirnError, match=message):
        train(config(data, tmp_path / "out", model=model))


def test_psnr_loss_weighs_frames_alike():
    sharp = torch.zeros(1, 2, 3, 8, 8)
    restored = torch.stack([torch.full((3, 8, 8), 0.1), torch.full((3, 8, 8), 0.4)])[None].requires_grad_()
    psnr_loss(restored, sharp).backward()
    slight, heavy = restored.grad.abs().mean((0, 2, 3, 4))
    assert slight / heavy == pytest.approx(4, rel=0.05)  # d log(e^2) = 2 de / e
    assert psnr_loss(sharp, sharp).item() == pytest.approx(0.02 * np.log(3e-4))


def test_validation_is_logged(data, tmp_path):
    settings = config(data, tmp_path, val_every=2)
    settings.data.val = [data]
    train(settings)
    found = [(r["step"], set(r["sequences"])) for r in rows(tmp_path) if "psnr_out" in r]
    assert found == [(1, {"s0", "s1"}), (3, {"s0", "s1"})]


def test_validation_sequences_of_one_name_are_told_apart(data, tmp_path):
    settings = config(data, tmp_path, optim=OptimConfig(steps=1))
    settings.data.val = [data / "s0", data, data]
    train(settings)
    (found,) = (r["sequences"] for r in rows(tmp_path) if "psnr_out" in r)
    assert list(found) == ["s0", "s0 (2)", "s1", "s0 (3)", "s1 (2)"]
