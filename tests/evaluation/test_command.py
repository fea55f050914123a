"""``rirn evaluate``: what it prints and writes, alone and in two processes."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

import rirn
from rirn.cli import main
from rirn.data import list_images, read_image, write_png
from rirn.evaluation import PROTOCOLS, FrameScore, Score, paper, psnr, ssim
from rirn.evaluation.report import to_json
from rirn.evaluation.sharding import share
from rirn.evaluation.speed import Ratio, added_time, format_ratios
from tests.data.layouts import gopro

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    rirn.save_weights(rirn.create_model("gru+rirn", width=0.2), path)
    return path


@pytest.fixture
def data(tmp_path):
    """Two test sequences of 3 and 6 frames and a training one; each sharp frame is as far from grey as its number says."""
    root = tmp_path / "GOPRO_Large"
    rng = np.random.default_rng(0)
    gopro(root, ["train/GOPR0372_07_00"])
    for name, frames in (("GOPR0384_11_00", 3), ("GOPR0854_11_00", 6)):
        gopro(root, [f"test/{name}"], frames=frames, size=(16, 12))
        for number, file in enumerate(list_images(root / "test" / name / "sharp")):
            noise = rng.integers(-5 - 20 * number, 6 + 20 * number, (12, 16, 3))
            write_png(file, (128 + noise).astype(np.uint8))
    return root


def command(data, weights, out):
    return ["evaluate", "--data", data, "--split", "test", "--model", weights, "--json", out]


def test_table_json_and_frames(data, weights, tmp_path, capsys):
    frames = tmp_path / "frames"
    argv = [*command(data, weights, tmp_path / "s.json"), "--save-frames", frames, "--workers", 2]
    assert main([str(a) for a in argv]) == 0
    out = " ".join(capsys.readouterr().out.split())
    content = json.loads((tmp_path / "s.json").read_text())
    assert [s["sequence"] for s in content["sequences"]] == ["test/GOPR0384_11_00", "test/GOPR0854_11_00"]
    assert PROTOCOLS["rirn"].definition in out and content["definition"] == PROTOCOLS["rirn"].definition
    rows = []
    for sequence in content["sequences"]:
        assert sequence["frames"] == len(sequence["per_frame"])
        for row in sequence["per_frame"]:
            images = {
                "in": read_image(data / sequence["sequence"] / "blur_gamma" / f"{row['frame']}.png"),
                "out": read_image(frames / sequence["sequence"] / f"{row['frame']}.png"),
            }
            truth = read_image(data / sequence["sequence"] / "sharp" / f"{row['frame']}.png")
            for end, image in images.items():
                assert row[f"psnr_{end}"] == psnr(image, truth)
                assert row[f"ssim_{end}"] == ssim(image, truth)
            rows.append(row)
    assert len(rows) == 9
    mean = np.mean([row["psnr_out"] for row in rows])
    assert content["mean_over_frames"]["psnr_out"] == pytest.approx(mean)
    by_sequence = np.mean([s["psnr_out"] for s in content["sequences"]])
    assert content["mean_over_sequences"]["psnr_out"] == pytest.approx(by_sequence) != pytest.approx(mean)
    before = np.mean([row["psnr_in"] for row in rows])
    assert f"mean over all 9 frames PSNR SSIM blurry input {before:.2f}" in out
    assert f" {weights} {mean:.2f} " in out and f" {weights} {by_sequence:.2f} " in out
    # Nothing is written over.
    assert main([str(a) for a in argv]) == 1
    assert "not an empty folder" in capsys.readouterr().err


def test_what_would_fail_after_hours_fails_at_once(data, weights, tmp_path, capsys):
    argv = ["evaluate", "--model", weights, "--json", tmp_path / "none" / "s.json", "--data", data]
    assert main([str(a) for a in argv]) == 1 and "there is no folder" in capsys.readouterr().err
    around = tmp_path / "around.safetensors"
    rirn.save_weights(rirn.create_model("ifi-rnn", width=0.2, blocks=1, past=2, future=2), around)
    argv = ["evaluate", "--model", around, "--split", "test", "--protocol", "estrnn", "--data", data]
    assert main([str(a) for a in argv]) == 1
    captured = capsys.readouterr()
    expected = "test/GOPR0384_11_00: protocol estrnn leaves out the first 2 and the last 2 frames, and the sequence has only 3"
    assert expected in captured.err and " -> " not in captured.err
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    # The names of several folders tell their sequences apart, unless they are alike, too.
    argv = ["evaluate", "--model", weights, "--split", "test", "--workers", 1, "--data", data, copy]
    assert main([str(a) for a in argv]) == 0
    out = capsys.readouterr().out
    assert "GOPRO_Large/test/GOPR0384_11_00" in out and "copy/test/GOPR0384_11_00" in out
    assert main([str(a) for a in [*argv[:-1], data]]) == 1
    assert "two sequences are called GOPRO_Large/test/" in capsys.readouterr().err


def test_frames_of_two_sizes_are_one_sentence(data, weights, tmp_path, capsys):
    folder = data / "test" / "GOPR0854_11_00"
    for half in ("blur", "blur_gamma", "sharp"):
        for file in list_images(folder / half)[4:5] if (folder / half).exists() else []:
            write_png(file, np.zeros((8, 16, 3), np.uint8))
    assert main([str(a) for a in command(data, weights, tmp_path / "s.json")]) == 1
    err = capsys.readouterr().err
    assert "is 16x8; frames of a sequence must be of one size, here 16x12" in err and "Traceback" not in err
    assert not (tmp_path / "s.json").exists()


def test_two_processes_share_the_sequences(data, weights, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(2):
        env = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        argv = [*command(data, weights, tmp_path / "two.json"), "--save-frames", tmp_path / f"rank{rank}"]
        process = subprocess.Popen(
            [sys.executable, "-m", "rirn", *map(str, argv)],
            env=os.environ | {key: str(value) for key, value in env.items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
    (out, err), (nothing, _) = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], err
    assert "mean over all 9 frames" in out and nothing == ""
    # Each did its own: the longer sequence is the first one's.
    assert (
        len(list((tmp_path / "rank0").rglob("*.png"))) == 6
        and len(list((tmp_path / "rank1").rglob("*.png"))) == 3
    )
    assert main([str(a) for a in command(data, weights, tmp_path / "one.json")]) == 0
    assert json.loads((tmp_path / "two.json").read_text()) == json.loads((tmp_path / "one.json").read_text())


def test_shares_are_whole_and_even():
    lengths = [100, 100, 100, 100, 134, 100, 77, 100, 100, 100, 100]
    items = [range(n) for n in lengths]
    for world in (1, 2, 3, 4, 16):
        shares = [share(items, rank, world) for rank in range(world)]
        assert sorted(i for part in shares for i in part) == list(range(11))
        loads = [sum(lengths[i] for i in part) for part in shares]
        assert max(loads) - min(loads) <= 134


def test_speed_is_a_ratio():
    ratio = added_time("gru", size=(32, 48), rounds=3, seconds=0.1, width=0.2)
    assert ratio.model == "gru+rirn" and ratio.ours > 0 and ratio.rounds == 3
    assert ratio.paper == pytest.approx(22.24 / 20.94)
    lines = format_ratios([ratio, Ratio("rdbn+atb", 1.5, None, 3)], (32, 48)).splitlines()
    assert lines[1].split() == ["gru+rirn", f"{ratio.ours:.2f}", "1.06", "3"]
    assert lines[2].split() == ["rdbn+atb", "1.50", "-", "3"]


@pytest.mark.parametrize(
    "model, ratio", [("rdbn+gsa", 0.170 / 0.095), ("ifi-rnn+atb", 0.065 / 0.049), ("rdbn+rirn", 10.50 / 8.53)]
)
def test_times_of_the_paper_are_of_one_table(model, ratio):
    assert paper.time_ratio(model) == pytest.approx(ratio)


def test_speed_command(capsys):
    assert main(["evaluate", "--speed", "gru", "--height", "16", "--width", "16"]) == 0
    out = capsys.readouterr().out
    assert "gru+rirn" in out and "16x16" in out


def test_json_has_no_infinite_numbers():
    row = FrameScore("000001", math.inf, 30.0, 1.0, 0.9)
    score = Score("a", 1, math.inf, 30.0, 1.0, 0.9, (row,))
    content = to_json([score], "m", PROTOCOLS["rirn"], ["d"])
    assert json.loads(json.dumps(content, allow_nan=False))["sequences"][0]["per_frame"][0]["psnr_in"] is None
    assert content["mean_over_frames"] == {"psnr_in": None, "psnr_out": 30.0, "ssim_in": 1.0, "ssim_out": 0.9}
