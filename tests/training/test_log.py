"""What a run tells about itself."""

import json
import math
import sys

import numpy as np
import pytest
import torch

from rirn.data import read_image
from rirn.distributed import World
from rirn.models import create_model
from rirn.training import ModelConfig, OptimConfig, train
from rirn.training.claims import _curve
from rirn.training.log import RunLog, keep_lines
from rirn.training.probe import probe
from tests.training.runs import config, rows


def test_first_line_says_where_and_how(data, tmp_path):
    train(config(data, tmp_path, optim=OptimConfig(steps=2)))
    head, *steps = rows(tmp_path)
    assert head["devices"][0]["name"] == "cpu" and head["processes"] == 1 and head["resumed_at"] is None
    assert head["versions"]["torch"] == torch.__version__ and head["versions"]["rirn"] and "commit" in head
    assert head["settings"]["optim"]["steps"] == 2 and head["steps"] == 2 and head["clip_starts"] == 8
    step = steps[0]
    assert step["frames_per_second"] == pytest.approx(2 * 3 / step["seconds"], rel=0.01)
    assert (
        0 <= step["wait_seconds"] <= step["seconds"] and step["peak_memory_mib"] > 10 and step["lr"] == 1e-4
    )
    assert 0 < steps[-1]["wait_share"] < 1 and steps[-1]["skipped"] == 0


def test_a_log_is_json_even_of_frames_without_error(tmp_path):
    with RunLog(config(tmp_path, tmp_path), World(torch.device("cpu")), 0) as log:
        log.write(0, "validation", psnr_out=math.inf, sequences={"a": math.nan, "b": -math.inf, "c": 0.5})
    line = (tmp_path / "log.jsonl").read_text().splitlines()[1]
    found = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert found == {"step": 0, "psnr_out": "inf", "sequences": {"a": "nan", "b": "-inf", "c": 0.5}}
    assert _curve([found])["b"] == [None] and _curve([found])["c"] == [0.5]


def test_keep_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    lines = [{"machine": 1}, {"step": 0}, {"step": 1}, {"step": 2}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1, "lo')
    keep_lines(path, 2)
    assert [json.loads(line) for line in path.read_text().splitlines()] == lines[:3]
    keep_lines(path, 0)
    assert not path.exists()


def test_strip_shows_blurry_restored_and_sharp(data, tmp_path):
    train(config(data, tmp_path, val_every=2))
    assert read_image(tmp_path / "strip.png").shape == (32, 3 * 32, 3)
    model = create_model(
        "strcnn", width=0.2, residual=True
    )  # untrained: it returns its input, also when late
    blurry, sharp = torch.rand(2, 5, 3, 16, 20)
    seen = probe(model, blurry, sharp)
    for i, clip in enumerate((blurry, blurry, sharp)):
        found = seen.strip[:, 20 * i : 20 * (i + 1)] / 255
        assert np.abs(found - clip[-1].permute(1, 2, 0).numpy()).max() < 0.003
    assert seen.gates is None and model.training


def test_gate_statistics_are_those_of_the_maps(data, tmp_path):
    model = create_model("ifi-rnn+rirn", width=0.2)
    with torch.no_grad():  # maps that are constant: w~ = 1/4 and, over half of the channels, w = 7/8
        half = model.atb.channels // 2
        for branch, biases in ((model.atb.branch_prev, [1 / 4] * 2), (model.atb.branch_cur, [1 / 2, 7 / 8])):
            branch.conv2.weight.zero_()
            branch.conv2.bias[:half], branch.conv2.bias[half:] = torch.logit(torch.tensor(biases))
    gates = probe(model, *torch.rand(2, 3, 3, 16, 16)).gates
    assert gates.mean_prev == pytest.approx(1 / 4) and gates.mean_cur == pytest.approx(11 / 16)
    assert gates.share_above_one == pytest.approx(1 - half / model.atb.channels)
    train(config(data, tmp_path, val_every=2))
    found = [row for row in rows(tmp_path) if "gate_mean_prev" in row]
    assert [row["step"] for row in found] == [1, 3] and 0 < found[0]["gate_share_above_one"] < 1
    train(config(data, tmp_path / "plain", model=ModelConfig("ifi-rnn", width=0.2), val_every=2))
    assert not any("gate_mean_prev" in row for row in rows(tmp_path / "plain"))


def test_tensorboard_gets_figures_and_the_strip(data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    settings = config(data, tmp_path, val_every=4)
    settings.data.val = [data]
    train(settings)
    tags = {}
    for file in (tmp_path / "tensorboard").iterdir():
        for raw in RawEventFileLoader(str(file)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                tags.setdefault(value.tag, []).append((event.step, value))
    assert [step for step, _ in tags["train/loss"]] == [0, 1, 2, 3]
    assert {"train/lr", "train/frames_per_second", "validation/psnr_out", "gates/gate_mean_cur"} <= set(tags)
    ((_, picture),) = tags["blurry, restored, sharp"]
    (tmp_path / "from_board.png").write_bytes(picture.image.encoded_image_string)
    assert np.array_equal(read_image(tmp_path / "from_board.png"), read_image(tmp_path / "strip.png"))


def test_without_tensorboard_the_lines_are_enough(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    train(config(data, tmp_path, optim=OptimConfig(steps=1)))
    assert not (tmp_path / "tensorboard").exists() and len(rows(tmp_path)) >= 3
