"""What runs a video from the exported files gets the frames that the model itself restores."""

import importlib.util

import numpy as np
import pytest
import torch

import rirn
import rirn.export
from rirn.cli import main
from rirn.export import export_onnx
from tests.models.cases import quick, small, video

SIZE = (10, 13)
SAME = 2e-6
"""Largest difference of a value in float32; worst seen 1.2e-7."""


@pytest.fixture(autouse=True)
def one_thread(threads):
    threads(1)


@pytest.fixture
def onnxruntime():
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: nothing can be exported")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: nothing runs the files")


class Program:
    """What a user writes around the files: no rirn and no torch, only what the files say."""

    def __init__(self, runtime, path):
        self.runtime, self.folder = runtime, path.parent
        self.step = self.open(path.name)
        self.metadata = self.step.get_modelmeta().custom_metadata_map

    def open(self, name):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = 1  # the networks here are small
        return self.runtime.InferenceSession(self.folder / name, options)

    def run(self, session, inputs):
        """The images of a run, and the state as inputs of the next one."""
        assert {i.name: tuple(i.shape) for i in session.get_inputs()} == {
            k: v.shape for k, v in inputs.items()
        }
        outputs = dict(zip((o.name for o in session.get_outputs()), session.run(None, inputs), strict=True))
        images = [value for name, value in outputs.items() if name.startswith("sharp")]
        return images, {k.removeprefix("new_"): v for k, v in outputs.items() if k.startswith("new_")}

    def restore(self, frames):
        """Images of a whole video, and the state after its last frame."""
        images = []
        if self.metadata["rirn.start"] == "zeros":
            inputs = self.step.get_inputs()
            state = {i.name: np.zeros(i.shape, np.float32) for i in inputs if i.name != "frame"}
            left = frames
        else:
            start = self.open(self.metadata["rirn.start"])
            n = len(start.get_inputs())
            images, state = self.run(start, {f"frame.{i}": frames[i] for i in range(n)})
            left = frames[n:]
        for frame in left:
            image, state = self.run(self.step, {"frame": frame, **state})
            images += image
        if self.metadata["rirn.end"]:
            images += self.run(self.open(self.metadata["rirn.end"]), state)[0]
        return images, state


def restored_by_both(runtime, model, path, t=6):
    """[T, 1, 3, H, W] of a video restored from the files and by the model, and both last states by name."""
    clip = video(1, t, 3, *SIZE).float()
    images, state = Program(runtime, path).restore([frame.numpy() for frame in clip.unbind(1)])
    expected, last = [], None
    with rirn.ops.use_backend("reference"):
        for frame in clip.unbind(1):
            image, last = model.step(frame, last)
            expected += [] if image is None else [image]
        expected += model.flush(last)
    last = {f"state.{name}": tensor.numpy() for name, tensor in last.tensors().items()}
    return np.stack(images), torch.stack(expected).numpy(), state, last


@pytest.mark.parametrize("name", quick("ifi-rnn+rirn", "rdbn+gsa"))
def test_onnxruntime_restores_the_same_video(onnxruntime, tmp_path, name, record_property):
    model = small(name, torch.float32)
    written = export_onnx(model, tmp_path / "model.onnx", height=SIZE[0], width=SIZE[1])
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert Program(onnxruntime, written[0]).metadata["rirn.delay"] == str(model.delay)
    images, expected, state, last = restored_by_both(onnxruntime, model, written[0])
    assert images.shape == expected.shape == (6, 1, 3, *SIZE)
    assert list(state) == list(last)
    errors = [np.abs(images - expected).max(), *(np.abs(state[key] - last[key]).max() for key in last)]
    record_property("error", max(map(float, errors)))
    assert all(error <= SAME for error in errors), errors


@pytest.mark.slow
def test_dropped_ends_have_nothing_to_end_with(onnxruntime, tmp_path):
    model = small("strcnn", torch.float32, ends="drop")
    written = export_onnx(model, tmp_path / "model.onnx", height=SIZE[0], width=SIZE[1])
    assert [path.name for path in written] == ["model.onnx", "model.start.onnx"]
    images, expected, *_ = restored_by_both(onnxruntime, model, written[0])
    assert images.shape == expected.shape == (2, 1, 3, *SIZE)
    assert np.abs(images - expected).max() <= SAME


@pytest.mark.slow
def test_command(onnxruntime, capsys, tmp_path):
    weights, out = tmp_path / "w.safetensors", tmp_path / "w.onnx"
    model = small("gru", torch.float32)
    rirn.save_weights(model, weights)
    argv = ["export", "--onnx", str(weights), str(out), "--height", str(SIZE[0]), "--width", str(SIZE[1])]
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n" and captured.err == ""
    images, expected, *_ = restored_by_both(onnxruntime, model, out)
    assert np.abs(images - expected).max() <= SAME


def refused(capsys, *argv):
    """The one sentence of an export that must fail."""
    try:
        status = main(["export", *map(str, argv)])
    except SystemExit as stopped:
        status = stopped.code
    out, err = capsys.readouterr()
    assert status not in (0, None) and out == "" and err.count("\n") == 1, err
    return err


def test_mistakes_get_one_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(rirn.export, "PACKAGES", ())
    out = tmp_path / "m.onnx"
    assert "there is --onnx" in refused(capsys, "gru", out)
    assert "at least 1 pixel; got 0 and 8" in refused(
        capsys, "--onnx", "gru", out, "--height", "0", "--width", "8"
    )
    assert "there is no folder" in refused(capsys, "--onnx", "gru", tmp_path / "none" / "m.onnx")
    assert "ends in .onnx" in refused(capsys, "--onnx", "gru", tmp_path / "m.pt")
    assert "did you mean 'gru'?" in refused(capsys, "--onnx", "gruu", out)
    assert "did you mean 'rirn-small'?" in refused(capsys, "--onnx", "rirn-smal", out)
    assert "there is no weights file" in refused(capsys, "--onnx", tmp_path / "none.safetensors", out)
    (tmp_path / "d.onnx").mkdir()
    assert "is no file" in refused(capsys, "--onnx", "gru", tmp_path / "d.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["d.onnx"]


def test_missing_packages_are_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "run `pip install 'rirn[onnx]'`" in refused(capsys, "--onnx", "gru", tmp_path / "m.onnx")


def test_parts_of_another_model_do_not_stay(tmp_path, monkeypatch):
    class Program:
        def save(self, path, external_data):
            path.write_text("new")

    monkeypatch.setattr(rirn.export, "PACKAGES", ())
    monkeypatch.setattr(rirn.export, "_translate", lambda graph, metadata: Program())
    (tmp_path / "m.start.onnx").write_text("old")
    (tmp_path / "m.onnx").write_text("old")
    export_onnx(small("gru"), tmp_path / "m.onnx", height=8, width=8)  # starts from zeros
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"m.onnx": "new"}


def test_failed_export_leaves_no_file(tmp_path, monkeypatch):
    def fail(graph, metadata):
        raise OSError("no space left")

    monkeypatch.setattr(rirn.export, "PACKAGES", ())
    monkeypatch.setattr(rirn.export, "_translate", fail)
    with pytest.raises(rirn.RirnError, match=r"cannot write .*: no space left"):
        export_onnx(small("gru"), tmp_path / "m.onnx", height=8, width=8)
    assert list(tmp_path.iterdir()) == []
