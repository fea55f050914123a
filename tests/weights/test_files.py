"""Weights files: round trip, and one clear sentence for each way in which a file can be wrong."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import rirn
from rirn import RirnError
from rirn.weights import shipped

OPTIONS = {"width": 0.2, "residual": True, "variant": "C1H2"}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = rirn.create_model("ifi-rnn+rirn", **OPTIONS).eval()
    path = tmp_path / "mine.safetensors"
    rirn.save_weights(model, path)
    return model, path


def test_round_trip(saved):
    model, path = saved
    again = rirn.load(path)
    assert again.config == {"name": "ifi-rnn+rirn", **OPTIONS} and not again.training
    clip = torch.rand(1, 2, 3, 16, 20)
    with torch.no_grad():
        assert torch.equal(model(clip), again(clip))
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_half_precision_storage(saved, tmp_path):
    model, _ = saved
    path = tmp_path / "half.safetensors"
    rirn.save_weights(model, path, torch.float16)
    assert all(t.dtype == torch.float16 for t in load_file(path).values())
    again = rirn.load(path)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert b.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_truncated_file(saved):
    path = saved[1]
    for keep in (0, 5, 100, path.stat().st_size - 1):
        content = path.read_bytes()
        damaged = path.with_name(f"cut{keep}.safetensors")
        damaged.write_bytes(content[:keep])
        with pytest.raises(RirnError, match="damaged"):
            rirn.load(damaged)


def test_file_of_another_architecture(saved):
    _, path = saved
    tensors = load_file(path)
    other = {"name": "ifi-rnn+rirn", "width": 0.4}
    save_file(tensors, path, metadata={"format": "rirn-weights-1", "model": json.dumps(other)})
    with pytest.raises(RirnError, match="does not fit its model 'ifi-rnn\\+rirn'"):
        rirn.load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "not of rirn"),
        ({"format": "other"}, "not of rirn"),
        ({"format": "rirn-weights-1"}, "does not say which model"),
        ({"format": "rirn-weights-1", "model": "{"}, "does not say which model"),
        ({"format": "rirn-weights-1", "model": '{"name": "ifi-rnm"}'}, "did you mean 'ifi-rnn'"),
    ],
)
def test_files_of_others(tmp_path, metadata, message):
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(RirnError, match=message):
        rirn.load(path)


def test_missing_names_and_files(tmp_path):
    with pytest.raises(RirnError, match="did you mean 'rirn-small'"):
        rirn.load("rirn-smal")
    with pytest.raises(RirnError, match="there is no weights file"):
        rirn.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_weights_have_a_card_and_are_small(name):
    path = shipped()[name]
    assert path.stat().st_size <= 5_000_000
    assert name in path.with_suffix(".md").read_text()
    model = rirn.load(name)
    with torch.no_grad():
        state = None
        for _ in range(model.delay + 1):
            out, state = model.step(torch.rand(1, 3, 21, 34), state)
    assert out.shape == (1, 3, 21, 34) and torch.isfinite(out).all()
    assert all(torch.isfinite(t).all() for t in state.tensors().values())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_weights_stay_calm_where_nothing_moves(name):
    # Weights trained on short clips alone let the blended feature grow with every frame until the picture breaks.
    model = rirn.load(name)
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    frame = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)
    state, changes = None, []
    with torch.no_grad():
        for _ in range(300):
            out, state = model.step(frame, state)
            if out is not None:
                changes.append((out - frame).abs().mean().item())
    assert max(changes) < 0.02
    assert changes[-1] < 2 * max(changes[:30])
