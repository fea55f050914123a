"""One step: what is skipped, what is averaged, and what saves memory without changing the gradient."""

import pytest
import torch

from rirn import RirnError
from rirn.data.clips import ClipDataset
from rirn.data.sequences import find_sequences
from rirn.distributed import World
from rirn.models import create_model
from rirn.ops import use_backend
from rirn.ops.backends import backend_in_use
from rirn.ops.precision import has_fast
from rirn.training import ModelConfig, OptimConfig, train
from rirn.training.learner import Learner
from rirn.training.loader import pieces
from rirn.training.optimizers import make_optimizer
from rirn.weights import load
from tests.training.runs import config, losses, rows

CPU = World(torch.device("cpu"))


def learner_of(settings):
    torch.manual_seed(0)
    model = create_model(settings.model.name, **settings.model.arguments())
    return Learner(model, settings, settings.optim, CPU)


def supply(settings, steps, delay=0):
    data = settings.data
    clips = ClipDataset(find_sequences(data.train[0]), frames=data.frames, crop=data.crop, seed=0)
    return pieces(clips, data, CPU, first=0, steps=steps, delay=delay)


def spoil(monkeypatch, *numbers):
    """Clips of these numbers become NaN."""
    read = ClipDataset.__getitem__

    def spoiled(self, number):
        blurry, sharp = read(self, number)
        return (blurry * float("nan"), sharp) if number in numbers else (blurry, sharp)

    monkeypatch.setattr(ClipDataset, "__getitem__", spoiled)


def copies(tensors):
    return [t.detach().clone() for t in tensors]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", ["ifi-rnn+rirn", "strcnn"])  # the second has running statistics
def test_a_step_that_is_not_finite_changes_nothing(data, tmp_path, monkeypatch, name):
    spoil(monkeypatch, 3)
    model = ModelConfig(name, width=0.2)
    settings = config(data, tmp_path, model=model, optim=OptimConfig(lr=1e-3, steps=3, ema=0.5))
    learner = learner_of(settings)
    applied = []
    for number, piece in enumerate(supply(settings, 3, learner.model.delay)):
        parts = [*learner.model.state_dict().values(), *learner.average.state_dict().values()]
        before = copies(parts)
        applied.append(learner.step(piece, number).applied)
        assert same(before, parts) is not applied[-1]
    assert applied == [True, False, True] and learner.skipped == 1 and learner.skipped_in_a_row == 0


def test_frames_weigh_alike_in_every_chunk(data, tmp_path):
    # The gradient of the last bias goes through no state, so that over the chunks of a clip it must come to that of the whole
    # clip: the sum over frames by the same divisor, although a look-ahead of two makes them 1 and 5 frames long.
    changes = {
        "model": ModelConfig("strcnn", width=0.2),
        "optim": OptimConfig(lr=1e-30, clip_norm=1e9),
        "frames": 6,
    }
    settings = config(data, tmp_path, chunk=3, batch=1, **changes)
    learner = learner_of(settings)
    bias, found = learner.model.base.output_layer.bias, 0
    for number, piece in enumerate(supply(settings, 2, delay=2)):
        learner.step(piece, number)
        found = found + bias.grad.clone()
    whole = config(data, tmp_path, batch=1, **changes)
    reference = learner_of(whole)
    reference.step(next(supply(whole, 1, delay=2)), 0)
    expected = 2 * reference.model.base.output_layer.bias.grad  # of 6 frames by 6, against 6 frames by 3
    torch.testing.assert_close(found, expected, rtol=0.02, atol=1e-4)


def test_skipped_clips_are_named_and_too_many_stop_the_run(data, tmp_path, monkeypatch):
    spoil(monkeypatch, 2, 4, 6)
    with pytest.raises(RirnError, match=r"not finite in 2 steps in a row.*optim.lr"):
        train(config(data, tmp_path, optim=OptimConfig(lr=1e-3, steps=9, max_nonfinite=2)))
    skipped = [row for row in rows(tmp_path) if "skipped" in row]
    assert [row["step"] for row in skipped] == [1, 2] and skipped[0]["skipped"] == "not finite"
    clips = ClipDataset(find_sequences(data), frames=3, crop=32, seed=0)
    assert skipped[0]["clips"] == [clips.source(2), clips.source(3)]
    assert skipped[0]["loss"] == "nan"  # a word: NaN is no JSON


def test_clips_without_a_state_are_left_alone(data, tmp_path, monkeypatch):
    spoil(monkeypatch, 0)
    optim = OptimConfig(lr=1e-3, steps=6, max_nonfinite=2)
    train(config(data, tmp_path, optim=optim, frames=6, chunk=2))  # three steps on each batch
    found = [row.get("skipped") for row in rows(tmp_path) if "loss" in row]
    assert found == ["not finite", "no state to go on from", "no state to go on from", None, None, None]


def test_clips_are_named_as_they_are_read(data):
    clips = ClipDataset(find_sequences(data), frames=3, crop=48, seed=0)
    whole = {f"{s.name}/{p.stem}" for s in find_sequences(data) for p in s.blurry[:4]}
    names = [clips.source(i) for i in range(40)]
    assert set(names) == whole
    # The same name, the same picture, up to place, flip and rotation: the darkest of the mean colours tells frames apart.
    keys = {}
    for i, name in enumerate(names):
        mean = clips[i][0][0].mean().item()
        keys.setdefault(name, []).append(mean)
    spread = [max(v) - min(v) for v in keys.values()]
    assert max(spread) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16", "fast"])
def test_half_precision_learns(data, tmp_path, precision):
    optim = OptimConfig(lr=1e-3, steps=8, warmup=2)
    for name in ("fp32", precision):
        train(config(data, tmp_path / name, optim=optim, precision=name))
    full, half = losses(tmp_path / "fp32"), losses(tmp_path / precision)
    assert (half != full) == (precision != "fast" or has_fast()) and half == pytest.approx(full, rel=0.02)
    assert all("skipped" not in row for row in rows(tmp_path / precision) if "loss" in row)
    assert ("loss_scale" in rows(tmp_path / precision)[1]) is (precision == "fp16")
    assert all(
        p.dtype == torch.float32 for p in load(tmp_path / precision / "weights.safetensors").parameters()
    )


def test_overflow_halves_the_scale(data, tmp_path):
    settings = config(data, tmp_path, precision="fp16")
    learner = learner_of(settings)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    assert not learner.step(next(supply(settings, 1)), 0).applied
    assert learner.scaler.get_scale() == 2.0**39


def test_average_of_the_weights(data, tmp_path):
    settings = config(data, tmp_path, optim=OptimConfig(lr=1e-2, steps=3, ema=0.75))
    learner = learner_of(settings)
    expected = None
    for number, piece in enumerate(supply(settings, 3)):
        learner.step(piece, number)
        now = copies(learner.model.parameters())
        expected = now if number == 0 else [0.75 * e + 0.25 * n for e, n in zip(expected, now, strict=True)]
    for e, a in zip(expected, learner.result.parameters(), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-7)
    train(settings)
    average, last = (load(tmp_path / f"{name}.safetensors") for name in ("weights", "weights-last"))
    assert not same(average.parameters(), last.parameters())
    for e, a in zip(expected, average.parameters(), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-3, atol=1e-4)


# A state that is fed back, running statistics with look-ahead, features of several frames, gates.
@pytest.mark.parametrize(
    "name",
    [
        "ifi-rnn+rirn",
        "strcnn",
        "lstm+rirn",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("stfan+rirn", "estrnn")),
    ],
)
def test_recomputing_changes_no_bit(name):
    torch.manual_seed(0)
    model = create_model(name, width=0.2)
    clip = torch.rand(2, 5, 3, 24, 28)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    found, saved = [], []
    for recompute in (False, True):
        model.load_state_dict(before)
        model.zero_grad()
        model.recompute = recompute
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t):
            first, state = model(clip[:, :3], return_state=True)
            whole = torch.cat([first, model(clip[:, 3:], state)], 1)
        # What is kept for the backward pass, each storage once, without the parameters.
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
        saved.append(sum(size for pointer, size in storages.items() if pointer not in own))
        whole.square().mean().backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        found.append(copies([whole, *grads, *model.buffers()]))
    assert same(*found)
    assert saved[1] < 0.5 * saved[0]


def test_recomputing_stays_on_the_backend():
    seen = []
    model = create_model("ifi-rnn+rirn", width=0.2)
    model.recompute = True
    # Before, since the second pass ends as soon as it has all that was asked for.
    model.irm.register_forward_pre_hook(lambda *_: seen.append(backend_in_use()))
    with use_backend("reference"):
        loss = model(torch.rand(1, 2, 3, 16, 16)).mean()
    loss.backward()  # out of the block, as in a thread of autograd's own
    assert seen == ["reference"] * 4 and backend_in_use() != "reference"


@pytest.mark.slow
def test_compiled_training_equals_eager(data, tmp_path):
    for compiled in (False, True):
        train(config(data, tmp_path / str(compiled), compile=compiled, frames=4, chunk=2))
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), rel=1e-3)


def test_checkpoints_hold_what_those_of_0_1_0_hold(data, tmp_path):
    learner = learner_of(config(data, tmp_path, model=ModelConfig("gru", width=0.2)))
    names = {"model", "average", "optimizer", "scaler", "state", "skipped", "generators"}
    assert set(learner.state_dict()) == names


def test_a_part_learns_at_a_rate_of_its_own(data, tmp_path):
    """Adam's first step moves every weight by the learning rate."""
    optim = OptimConfig(lr=1e-3, steps=1, rates={"irm": 3.0, "atb": 0.0})
    settings = config(data, tmp_path, model=ModelConfig("ifi-rnn+rirn", width=0.2), optim=optim)
    learner = learner_of(settings)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    for number, piece in enumerate(supply(settings, 1)):
        learner.step(piece, number)
    moved: dict[str, float] = {}
    for name, p in learner.model.named_parameters():
        part = name.partition(".")[0]
        moved[part] = max(moved.get(part, 0), (p.detach() - before[name]).abs().max().item())
    assert moved["atb"] == 0
    assert moved["base"] == pytest.approx(1e-3, rel=0.01)
    assert moved["irm"] == pytest.approx(3e-3, rel=0.01)


def test_rates_of_parts_that_are_not_there(data, tmp_path):
    model = ModelConfig("ifi-rnn+atb", width=0.2)
    settings = config(data, tmp_path, model=model, optim=OptimConfig(steps=1, rates={"irm": 3.0}))
    with pytest.raises(
        RirnError, match=r"optim.rates names 'irm', which is no part of the model; it has base, atb, fuse$"
    ):
        learner_of(settings)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_moves_hidden_convolutions_along_orthogonal_matrices(layout):
    model = create_model("ifi-rnn+rirn", width=0.2).to(memory_format=layout)
    ends = {"base.cells.0.encoder.0.weight", "base.decoder.2.weight"}
    parameters = dict(model.named_parameters())
    assert ends < set(parameters)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer = make_optimizer(model, OptimConfig(name="muon", lr=0.01, rates={"irm": 2.0}))
    for group in optimizer.param_groups:
        group["lr"] = 0.01 * group.get("rate", 1.0)
    optimizer.step()
    for name, parameter in parameters.items():
        step, lr = before[name] - parameter.detach(), 0.02 if name.startswith("irm.") else 0.01
        if parameter.dim() == 4 and name not in ends:
            values = torch.linalg.svdvals(step.flatten(1))
            scale = 0.2 * lr * max(step.flatten(1).shape) ** 0.5
            # Newton-Schulz in bfloat16 brings the singular values between 0.7 and 1.2 (Jordan et al.).
            assert (values / scale).min() > 0.6 and (values / scale).max() < 1.3, name
            assert (step * parameter.grad).sum() > 0, name
        else:  # Adam's first step
            assert torch.allclose(step, lr * parameter.grad.sign(), rtol=1e-3, atol=1e-6), name
