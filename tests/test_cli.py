"""The command line: what a person types, and the one sentence that each mistake gets."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

import rirn
from rirn.cli import COMMANDS, main
from rirn.commands.parser import pick_device
from rirn.data import list_images, write_png, write_sequence
from rirn.video import Reader
from tests.video.clips import write_clip

SIZE = (24, 32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A residual model before its first training step: it returns its input."""
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    rirn.save_weights(rirn.create_model("ifi-rnn+rirn", width=0.2, residual=True), path)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        write_png(folder / f"{i:03d}.png", rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", frames=6)


def run(capsys, *argv):
    """Exit status, standard output and standard error of a command run in this process."""
    try:
        status = main([str(a) for a in argv])
    except SystemExit as stopped:
        status = stopped.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(capsys, *argv):
    """The one sentence of a command that must fail, without a traceback."""
    status, _, err = run(capsys, *argv)
    lines = [line for line in err.splitlines() if line.startswith("rirn")]
    assert status not in (0, None) and "Traceback" not in err and len(lines) == 1, err
    return lines[0]


def test_folder_to_folder_keeps_names_and_pixels(capsys, photos, weights, tmp_path):
    status, out, _ = run(capsys, "deblur", photos, tmp_path / "out", "--model", weights)
    assert status == 0 and "5 frames" in out
    names = [p.name for p in list_images(tmp_path / "out")]
    assert names == [p.name for p in list_images(photos)]
    for name in names:
        assert (photos / name).exists()
        assert np.array_equal(
            rirn.data.read_image(photos / name), rirn.data.read_image(tmp_path / "out" / name)
        )


def test_video_to_video(capsys, clip, weights, tmp_path):
    before = hashlib.sha256(clip.read_bytes()).hexdigest()
    status, _, _ = run(
        capsys, "deblur", clip, tmp_path / "out.mp4", "--model", weights, "--backend", "reference"
    )
    assert status == 0
    with Reader(clip) as a, Reader(tmp_path / "out.mp4") as b:
        times = [[f.pts * f.time_base for f in reader] for reader in (a, b)]
    assert times[0] == times[1] and len(times[0]) == 6
    assert hashlib.sha256(clip.read_bytes()).hexdigest() == before


def test_compare_is_twice_as_wide(capsys, photos, weights, tmp_path):
    assert run(capsys, "deblur", photos, tmp_path / "out", "--model", weights, "--compare")[0] == 0
    assert rirn.data.read_image(list_images(tmp_path / "out")[0]).shape[1] > 2 * SIZE[1]


def test_missing_input(capsys, weights, tmp_path):
    assert "does not exist" in refused(
        capsys, "deblur", tmp_path / "no.mp4", tmp_path / "o.mp4", "--model", weights
    )


def test_text_named_mp4(capsys, weights, tmp_path):
    source = tmp_path / "text.mp4"
    source.write_text("this is no video\n" * 50)
    refused(capsys, "deblur", source, tmp_path / "o.mp4", "--model", weights)
    assert [p.name for p in tmp_path.iterdir()] == ["text.mp4"]


def test_zero_frames(capsys, weights, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(capsys, "deblur", tmp_path / "empty", tmp_path / "o.mp4", "--model", weights)
    (tmp_path / "empty.mp4").touch()
    refused(capsys, "deblur", tmp_path / "empty.mp4", tmp_path / "o.mp4", "--model", weights)
    assert not (tmp_path / "o.mp4").exists()


def test_output_in_missing_folder(capsys, clip, weights, tmp_path):
    refused(capsys, "deblur", clip, tmp_path / "none" / "o.mp4", "--model", weights)
    assert not (tmp_path / "none").exists()


def test_output_equal_to_input(capsys, clip, weights):
    before = clip.read_bytes()
    refused(capsys, "deblur", clip, clip, "--model", weights)
    assert clip.read_bytes() == before


def test_broken_stream_keeps_what_was_restored(capsys, weights, tmp_path):
    whole = write_clip(tmp_path / "whole.mkv", frames=30)
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    refused(capsys, "deblur", broken, tmp_path / "o.mkv", "--model", weights)
    with Reader(tmp_path / "o.mkv") as reader:
        assert 0 < sum(1 for _ in reader) < 30


@pytest.mark.parametrize("name", ["rirn-smal", "folder/none.safetensors"])
def test_unknown_model(capsys, clip, tmp_path, name):
    refused(capsys, "deblur", clip, tmp_path / "o.mp4", "--model", name)
    assert not (tmp_path / "o.mp4").exists()


def test_damaged_weights(capsys, clip, weights, tmp_path):
    damaged = tmp_path / "cut.safetensors"
    damaged.write_bytes(weights.read_bytes()[:2000])
    assert "damaged" in refused(capsys, "deblur", clip, tmp_path / "o.mp4", "--model", damaged)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["deblr"], "deblur"),
        (["deblur", "a.mp4"], "target"),
        (["deblur", "a.mp4", "b.mp4", "--modell", "x"], "did you mean --model?"),
        (["deblur", "a.mp4", "b.mp4", "--dtype", "fp8"], "fp32"),
        (["deblur", "a.mp4", "b.mp4", "--crf", "x"], "crf"),
        (["deblur", "a.mp4", "b.mp4", "--tile", "²"], "A tile of ² pixels is not possible"),
        (["deblur", "-", "-", "--raw-size", "²x²"], "'²x²' is no frame size"),
        (["deblur", "-", "-", "--raw-size", "0x4"], "Raw frames of 0x4 are not possible"),
        (["deblur", "-", "-", "--raw-size", "999999x999999"], "Raw frames of 999999x999999 are not possible"),
        (["deblur", "a.mp4", ""], "The target has no name"),
        (["deblur", "a.mp4", "b.mp4", "/dev/null/out/"], "Cannot write /dev/null/out/: Not a directory"),
        (["deblur"], "are required: SOURCE ... TARGET (see rirn deblur --help)"),
        (["compare", "a.mp4"], "are required: B (see rirn compare --help)"),
        (["train"], "are required: --out, --data.train (see rirn train --help)"),
        (["train", "--out", "/proc/run", "--seed", "-1", "--data.train+=x"], "seed must not be negative"),
        (["models", "--height", "0"], "height"),
        (["models", "--height", "-5"], "height"),
        (["evaluate", "--speed", "gru", "--height", "0"], "height"),
        (["evaluate", "--speed", "gru", "--device", "foo"], "torch knows no device 'foo'"),
        (["evaluate", "--speed", "gru", "--device", "cuda:99"], "there is no device cuda:99"),
        (["evaluate", "--data", ".", "--device", "foo"], "torch knows no device 'foo'"),
        (["evaluate", "--data", ".", "--json", "/tmp"], "/tmp is a folder; give --json a file"),
        (["figures", "4", "--data", "/", "--device", "foo"], "torch knows no device 'foo'"),
        (["table", "2", "--mini", "--dry-run", "--results", "/tmp"], "cannot read the results /tmp"),
        (
            ["table", "2", "--mini", "--dry-run", "--markdown", "/nowhere/page.md"],
            "there is no folder /nowhere",
        ),
        (["train", "--out", "x", "--optm.lr", "1"], "did you mean --optim.lr?"),
        (["convert", "ifi-rnn", "/nowhere.pth", "/nowhere/out.safetensors"], "/nowhere.pth"),
        (["evaluate", "--data", "/nowhere", "--model", "rirn-smal"], "rirn-small"),
        (["evaluate", "--data", "/nowhere"], "there is no folder /nowhere"),
        (["evaluate"], "give --data DIR, or --speed"),
        (["evaluate", "--data", "x", "--protocol", "gopro"], "estrnn"),
        (["evaluate", "--speed", "estrnn"], "estrnn"),
        (
            ["evaluate", "--speed", "gru", "--data", "x", "--save-frames", "y"],
            "--data and --save-frames would do nothing",
        ),
        (["data"], "check"),
        (["data", "chek", "x"], "check"),
        (["data", "check"], "are required: DIR (see rirn data check --help)"),
        (["data", "check", "/nowhere"], "there is no folder /nowhere"),
        (["data", "check", "x", "--header-only"], "did you mean --headers-only?"),
    ],
)
def test_wrong_command_lines(capsys, argv, message):
    assert message in refused(capsys, *argv)


def test_paths_that_cannot_be_written(capsys, photos, tmp_path):
    file, data = tmp_path / "file", tmp_path / "data"
    file.touch()
    pairs = [(np.zeros((*SIZE, 3), np.uint8),) * 2 for _ in range(2)]
    write_sequence(data / "s", pairs)
    start = ["train", f"--data.train+={data}", "--data.frames", 2, "--data.crop", 16, "--data.batch", 1]
    for argv in (
        [*start, "--model.width", 0.2, "--device", "cpu", "--out", file],
        ["data", "synth", photos, "--out", file / "set"],
        ["evaluate", "--data", data, "--model", "rirn-tiny", "--save-frames", file / "frames"],
        ["demo", "--out", file],
    ):
        assert str(file) in refused(capsys, *argv)


def test_unknown_backend_and_device(capsys, clip, weights, tmp_path):
    target = tmp_path / "o.mp4"
    assert "reference" in refused(
        capsys, "deblur", clip, target, "--model", weights, "--backend", "referense"
    )
    refused(capsys, "deblur", clip, target, "--model", weights, "--device", "tpu")
    if not torch.cuda.is_available():
        refused(capsys, "deblur", clip, target, "--model", weights, "--device", "cuda")
    assert not target.exists()


def test_each_process_of_a_launcher_takes_a_gpu_of_its_own(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [pick_device(name) for name in ("auto", "cuda", "cuda:0", "cpu")] == ["cuda:1"] * 2 + [
        "cuda:0",
        "cpu",
    ]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    assert "give cpu" in refused(capsys, "deblur", "a.mp4", "b.mp4", tmp_path / "out", "--device", "cuda")
    assert not (tmp_path / "out").exists()


def test_train_then_evaluate_from_a_configuration_file(capsys, tmp_path):
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),) * 2 for _ in range(4)]
    write_sequence(tmp_path / "data" / "s", pairs)
    file = tmp_path / "c.yaml"
    file.write_text(
        f"out: {tmp_path / 'run'}\ndata:\n  train: [{tmp_path / 'data'}]\n  frames: 2\n  crop: 16\n  batch: 1\n"
        "model:\n  width: 0.2\n  residual: true\noptim:\n  steps: 2\n"
    )
    status, out, err = run(capsys, "train", "--config", file, "--optim.steps", "1")
    assert status == 0, err
    assert out.strip() == str(tmp_path / "run" / "weights.safetensors")
    pytest.importorskip("skimage")
    scores = tmp_path / "scores.json"
    status, out, _ = run(
        capsys, "evaluate", "--data", tmp_path / "data", "--model", out.strip(), "--json", scores
    )
    assert status == 0 and "mean over all 4 frames" in out and '"psnr_out"' in scores.read_text()


def test_unknown_key_in_a_configuration_file(capsys, tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("out: x\noptm:\n  lr: 1\n")
    assert "optm" in refused(capsys, "train", "--config", file)


def test_doctor_answers(capsys):
    status, out, _ = run(capsys, "doctor")
    assert status == 0 and "reference" in out and torch.__version__ in out


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_has_help(capsys, command):
    status, out, _ = run(capsys, *([command] if command else []), "--help")
    assert status == 0 and out.startswith(f"usage: rirn{' ' * bool(command)}{command}")
    assert command in ("bench", "data") or "--plugin" in out


@pytest.mark.parametrize("words", [("train",), ("data", "synth")], ids=" ".join)
def test_help_has_no_markup_of_docstrings(capsys, words):
    text = run(capsys, *words, "--help")[1]
    assert "bf16, fp16: autocast" in text or "see rirn.data.Shake" in text
    assert "`" not in text


def test_help_states_defaults_but_those_of_flags(capsys):
    assert "(default: True)" not in run(capsys, "deblur", "--help")[1]
    assert "(default: 0)" in run(capsys, "compare", "--help")[1]


def test_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "rirn", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == f"rirn {rirn.__version__}"
