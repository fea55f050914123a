"""What damaged input once led to instead of one sentence, each as the smallest input that did."""

from __future__ import annotations

import inspect
import io
import json
import os
import sys

import pytest
import torch
from safetensors.torch import save_file

from rirn.cli import main
from rirn.data import find_sequences
from rirn.errors import RirnError
from rirn.models.registry import TYPES, model_names, recipes
from rirn.models.torch_files import read_torch_file
from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig, train
from rirn.training.checkpoint import read_checkpoint
from rirn.video import Reader, deblur, pipeline
from rirn.video.mux import assemble
from rirn.video.parts import Parts
from rirn.weights import load
from rirn.weights.convert import from_public
from tests.data.layouts import gopro, reds
from tests.fuzz.kinds.base import Echo
from tests.video.clips import write_clip
from tests.weights.test_convert import estrnn


def refusal(capsys, *argv):
    """The only line that a command leaves on standard error."""
    try:
        status = main([str(a) for a in argv])
    except SystemExit as stopped:
        status = stopped.code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert status in (1, 2)
    return line


def test_a_configuration_that_is_not_utf_8(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"seed: \xee\n")
    assert "not text in UTF-8" in refusal(capsys, "train", "--config", path, "--out", tmp_path / "run")


def test_a_configuration_nested_too_deep(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("[" * 5000)
    assert refusal(capsys, "train", "--config", path, "--out", tmp_path / "run").startswith("rirn")


@pytest.mark.parametrize("group", ("data", "model", "optim"))
def test_a_group_of_settings_without_any(group, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(f"data:\n  train: [nowhere]\n{group}:\n" if group != "data" else "data:\n")
    assert group in refusal(capsys, "train", "--config", path, "--out", tmp_path / "run")


def test_a_long_message_is_cut(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("x" * 5000)
    line = refusal(capsys, "train", "--config", path, "--out", tmp_path / "run")
    assert len(line) < 500 and "got 'xxx" in line


def test_a_superscript_is_no_number_of_a_sequence(tmp_path):
    reds(tmp_path, "train", ["\u00b2"], frames=1)
    assert [s.split for s in find_sequences(tmp_path)] == ["train"]


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_name_that_is_not_utf_8_is_printed_as_it_is(tmp_path, monkeypatch):
    gopro(tmp_path, ["GOPR0372_07_00"], halves=("blur", "sharp"))
    (tmp_path / "GOPR0372_07_00").rename(tmp_path / os.fsdecode(b"caf\xe9"))
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8"))
    assert main(["data", "check", str(tmp_path)]) == 0
    sys.stdout.flush()
    assert b"caf\xe9" in out.getvalue()


@pytest.mark.parametrize(
    "content", (b"", b"\x80\x02.", b"\x80\x02X\x01\x00\x00\x00\x85.", b"PK\x03\x04", b"x" * 100)
)
def test_damaged_files_of_torch(content):
    with pytest.raises(ValueError) as refused:
        read_torch_file(io.BytesIO(content))
    assert "weights_only" not in str(refused.value) and len(str(refused.value).splitlines()) == 1


def test_keys_of_a_published_checkpoint_that_are_no_names(tmp_path):
    torch.save({0: torch.zeros(1)}, tmp_path / "in.pth")
    with pytest.raises(RirnError, match="no dictionary of tensors"):
        from_public("estrnn", tmp_path / "in.pth")


def test_many_tensors_that_do_not_belong_are_not_all_named(tmp_path):
    tensors = estrnn(n=2, blocks=1).state_dict() | {f"x\n{i}": torch.zeros(1) for i in range(2000)}
    torch.save(tensors, tmp_path / "in.pth")
    with pytest.raises(RirnError, match="and 1995 more") as refused:
        from_public("estrnn", tmp_path / "in.pth")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("shape", ((), (10,), (5, 7, 5, 5)))
def test_a_published_layer_of_another_shape(shape, tmp_path):
    tensors = estrnn(n=2, blocks=1).state_dict() | {"cell.F_B0.weight": torch.zeros(shape)}
    torch.save(tensors, tmp_path / "in.pth")
    with pytest.raises(RirnError):
        from_public("estrnn", tmp_path / "in.pth")


@pytest.mark.parametrize("content", ([], {}, {"step": None}, {"step": -1}, {"step": "1"}, {"step": True}))
def test_a_checkpoint_without_a_step(content, tmp_path):
    torch.save(content, tmp_path / "checkpoint-00000001.pt")
    with pytest.raises(RirnError, match="names no step"):
        read_checkpoint(tmp_path / "checkpoint-00000001.pt")


@pytest.mark.parametrize("missing", ("identity", "model", "optimizer", "generators", "skipped"))
def test_a_checkpoint_without_one_of_its_parts(missing, tmp_path):
    gopro(tmp_path / "data", ["train/GOPR0372_07_00"], frames=2)
    config = TrainConfig(
        out=tmp_path / "run",
        data=DataConfig([tmp_path / "data"], frames=2, crop=4, batch=1, workers=0, cache_mib=1),
        model=ModelConfig("gru", width=0.1),
        optim=OptimConfig(steps=1),
        device="cpu",
    )
    train(config)
    path = tmp_path / "run" / "checkpoint-00000001.pt"
    content = read_checkpoint(path)
    del content[missing]
    torch.save(content, path)
    with pytest.raises(RirnError, match=r"the checkpoint in .* --resume never"):
        train(config)


def test_the_state_of_an_interrupted_run_that_was_changed(tmp_path, monkeypatch):
    class Stops(Echo):
        left = 5

        def step(self, frame, state):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().step(frame, state)

    monkeypatch.setattr(pipeline, "SEGMENT", 2)
    clip = write_clip(tmp_path / "in.mkv", 8, 32, 24, codec="ffv1")
    with pytest.raises(KeyboardInterrupt):
        deblur(Stops(), clip, tmp_path / "out.mkv", progress=False)
    (state,) = (tmp_path / "out.mkv.resume").glob("state-*.pt")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    state.write_bytes(content)
    with pytest.raises(RirnError, match="not what was written"):
        deblur(Stops(), clip, tmp_path / "out.mkv", progress=False, resume=True)


@pytest.mark.parametrize("settings", ("[]", "7", '"x"', "[" * 5000, ""))
def test_the_settings_of_an_interrupted_run_that_are_none(settings, tmp_path):
    clip = write_clip(tmp_path / "in.mkv", 2, 32, 24, codec="ffv1")
    parts = tmp_path / "out.mkv.resume"
    parts.mkdir()
    (parts / "settings.json").write_text(settings)
    with pytest.raises(RirnError):
        deblur(Echo(), clip, tmp_path / "out.mkv", progress=False, resume=True)


@pytest.mark.parametrize("settings", ({"rate": "two\nlines"}, {"rate": "x" * 5000}, {"x\n" * 5000: 1}))
def test_the_settings_of_an_interrupted_run_that_are_quoted(settings, tmp_path):
    parts = tmp_path / "out.mkv.resume"
    parts.mkdir()
    (parts / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(RirnError, match="Cannot continue") as refused:
        Parts(tmp_path / "out.mkv", {"rate": 25}, resume=True)
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 1000


@pytest.mark.parametrize("keep", (0, 200, 400))
def test_segments_without_a_picture(keep, tmp_path):
    """What an interrupted run left, with the second segment cut off behind its header."""
    whole, broken = (write_clip(tmp_path / f"{n}.mkv", 2, 32, 24, codec="ffv1") for n in "ab")
    broken.write_bytes(broken.read_bytes()[:keep])
    for segments in ([whole, broken], [broken, whole]):
        with Reader(whole) as reader, pytest.raises(RirnError):
            assemble(tmp_path / "out.mkv", segments, reader.info)
        assert not (tmp_path / "out.mkv").exists()


def test_a_damaged_header_that_is_quoted(tmp_path):
    """The words of the reader of safetensors quote what they found, line breaks and all."""
    header = json.dumps({"x": {"dtype": "two\nlines" * 500, "shape": [1], "data_offsets": [0, 4]}}).encode()
    path = tmp_path / "in.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(RirnError, match="damaged") as refused:
        load(path)
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 1000


HOSTILE_OPTIONS = (
    {"name": "rdbn", "blocks": 10**9},
    {"name": "rdbn", "blocks": 1.5},
    {"name": "rdbn", "blocks": True},
    {"name": "rdbn", "width": "1"},
    {"name": "rdbn", "width": float("nan")},
    {"name": "rdbn", "residual": "no"},
    {"name": "estrnn", "future": 10**6},
    {"name": "ifi-rnn", "variant": "C999999999H1"},
    {"name": "ifi-rnn", "variant": None},
    {"name": "ifi-rnn+atb", "atb_decay": "0.9"},
    {"name": "stfan", "input_shift": "0"},
    {"name": ["gru"]},
    {"name": 7},
    {"name": "x" * 5000},
    {"name": "gru", "x" * 5000: 1},
    {},
    [],
)


@pytest.mark.parametrize("config", HOSTILE_OPTIONS, ids=lambda config: f"{config!s:.50}")
def test_weights_that_name_an_impossible_model(config, tmp_path):
    """One of a thousand million blocks took a thousand million steps to refuse."""
    metadata = {"format": "rirn-weights-1", "model": json.dumps(config)}
    save_file({"x": torch.zeros(1)}, tmp_path / "in.safetensors", metadata=metadata)
    with pytest.raises(RirnError) as refused:
        load(tmp_path / "in.safetensors")
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", model_names())
def test_every_option_of_a_model_has_a_default_of_a_known_type(name):
    parameters = inspect.signature(recipes()[name].base).parameters.values()
    assert all(type(p.default) in TYPES for p in parameters)
