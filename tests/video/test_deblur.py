"""The whole way: frames in equal frames out, the state runs through, memory is bounded, no mess is left."""

import os
import re
import signal
import sys
import threading
import time
import weakref
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from rirn.errors import RirnError
from rirn.models import create_model
from rirn.video import BrokenStream, Encoding, Frame, Reader, VideoInfo, VideoWriter, deblur, restore
from rirn.video.compare import BAR, SideBySide
from rirn.video.options import DTYPES
from rirn.video.pipeline import MOST_QUEUED, QUEUED, frames_ahead
from tests.video.clips import Delayed, Identity, Invert, digest, picture, probe, psnr, write_clip


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not [t.name for t in threading.enumerate() if t.name.startswith("rirn")]


@pytest.fixture(scope="module")
def clip_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    return write_clip(path, 12, audio=("aac", "libmp3lame")).read_bytes()


@pytest.fixture
def clip(tmp_path, clip_bytes):
    path = tmp_path / "in.mp4"
    path.write_bytes(clip_bytes)
    return path


@pytest.mark.parametrize("model", [Identity, Delayed])
def test_frames_times_and_sound_come_out_as_they_went_in(tmp_path, clip, model):
    before, digest_before = probe(clip), digest(clip)
    network = model()
    summary = deblur(network, clip, tmp_path / "out.mp4", progress=False)
    after = probe(tmp_path / "out.mp4")
    assert after[0] == before[0] and after[2] == before[2]
    assert min(psnr(a, b) for a, b in zip(before[1], after[1], strict=True)) > 35
    assert network.states == list(range(12))
    assert (summary.frames, summary.width, summary.height) == (12, 64, 48)
    assert summary.seconds > 0 and summary.fps == summary.frames / summary.seconds
    assert digest(clip) == digest_before
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4"]


def test_the_network_is_what_is_written(tmp_path, clip):
    deblur(Invert(), clip, tmp_path / "out.mp4", progress=False)
    for a, b in zip(probe(clip)[1], probe(tmp_path / "out.mp4")[1], strict=True):
        assert psnr(255 - a, b) > 35


@pytest.mark.parametrize("model", [Identity, Delayed])
@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_clips(tmp_path, model, frames):
    clip = write_clip(tmp_path / "in.mkv", frames, 16, 16)
    assert deblur(model(), clip, tmp_path / "out.mkv", progress=False).frames == frames
    assert probe(tmp_path / "out.mkv")[0] == probe(clip)[0]


def test_uneven_times_are_exact(tmp_path):
    stamps = [0, 3000, 9000, 9100, 20000, 20001, 40000, 50000, 60000, 90000]
    clip = write_clip(tmp_path / "in.mp4", 10, pts=stamps)
    deblur(Delayed(), clip, tmp_path / "out.mov", progress=False)
    assert [t * 90000 for t in probe(tmp_path / "out.mov")[0]] == stamps


@pytest.mark.parametrize("name", ["out.v2", "out.mp4"])
def test_a_slash_at_the_end_means_a_folder_of_images(tmp_path, clip, name):
    deblur(Identity(), clip, f"{tmp_path / name}/", progress=False)
    assert sorted(os.listdir(tmp_path / name)) == [f"{i:08d}.png" for i in range(12)]


@pytest.mark.parametrize(("width", "height"), [(63, 47), (1, 1), (5, 2)], ids=str)
def test_folder_to_folder_is_exact_at_any_size(tmp_path, width, height):
    (tmp_path / "in").mkdir()
    for i in (8, 9, 10):
        Image.fromarray(picture(width, height, i)).save(tmp_path / "in" / f"{i}.png")
    deblur(Identity(), tmp_path / "in", tmp_path / "out", progress=False)
    assert sorted(os.listdir(tmp_path / "out")) == ["10.png", "8.png", "9.png"]
    for i in (8, 9, 10):
        with Image.open(tmp_path / "out" / f"{i}.png") as image:
            assert np.array_equal(np.array(image), picture(width, height, i))


def test_folder_to_video_and_back(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(5):
        Image.fromarray(picture(63, 47, i)).save(tmp_path / "in" / f"{i}.png")
    deblur(Identity(), tmp_path / "in", tmp_path / "mid.mp4", rate=Fraction(30000, 1001), progress=False)
    assert probe(tmp_path / "mid.mp4")[0] == [Fraction(1001 * i, 30000) for i in range(5)]
    deblur(Delayed(), tmp_path / "mid.mp4", tmp_path / "out", progress=False)
    assert sorted(os.listdir(tmp_path / "out")) == [f"{i:08d}.png" for i in range(5)]
    with Image.open(tmp_path / "out" / "00000004.png") as image:
        assert psnr(np.array(image), picture(63, 47, 4)) > 35


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cpu_takes_float32_whatever_is_asked_for(tmp_path, clip, dtype):
    """Half precision is no faster on any, and slower on most."""
    network = Identity()
    deblur(network, clip, tmp_path / "out", dtype=dtype, progress=False)
    assert network.dtypes == {torch.float32} and network.scale.dtype == torch.float32
    with Reader(clip) as reader, Image.open(tmp_path / "out" / "00000000.png") as image:
        assert np.array_equal(np.array(image), next(iter(reader)).rgb)


@pytest.mark.parametrize(
    ("device", "fast", "expected"),
    [
        ("cpu", True, {"auto": "fast", "fp32": "fp32", "fast": "fast", "bf16": "fast", "fp16": "fast"}),
        ("cpu", False, dict.fromkeys(DTYPES, "fp32")),
        ("cuda", False, {"auto": "fp32", "fp32": "fp32", "fast": "fp32", "bf16": "bf16", "fp16": "fp16"}),
    ],
)
def test_number_formats(device, fast, expected, monkeypatch):
    monkeypatch.setattr(restore, "has_fast", lambda: fast)
    assert set(expected) == set(DTYPES)
    tensors = {"fp32": torch.float32, "fast": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for name, format_ in expected.items():
        assert restore.resolved_dtype(name, torch.device(device)) == format_
        precision = "fast" if format_ == "fast" else "exact"
        assert restore.pick_dtype(name, torch.device(device)) == (tensors[format_], precision)


@pytest.mark.parametrize("fast", [True, False])
def test_networks_of_ours_run_in_the_precision_asked_for(tmp_path, clip, fast, monkeypatch):
    monkeypatch.setattr(restore, "has_fast", lambda: fast)
    network = create_model("ifi-rnn", width=0.1)
    deblur(network, clip, tmp_path / "auto", progress=False)
    assert network.precision == ("fast" if fast else "exact")
    deblur(network, clip, tmp_path / "fp32", dtype="fp32", progress=False)
    assert network.precision == "exact"


def test_results_are_clamped_and_rounded(tmp_path):
    class Fixed(Identity):
        def restore(self, frame):
            values = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.5])
            return values.expand(1, 3, 2, 6)

    (tmp_path / "in").mkdir()
    Image.new("RGB", (6, 2)).save(tmp_path / "in" / "0.png")
    deblur(Fixed(), tmp_path / "in", tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / "0.png") as image:
        assert np.array(image)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("model", [Invert, Delayed])
def test_compare_shows_input_left_and_result_right(tmp_path, clip, model):
    summary = deblur(
        model(), clip, tmp_path / "out.mp4", compare=True, encoding=Encoding(crf=1), progress=False
    )
    assert (summary.width, summary.height) == (2 * 64 + BAR, 48)
    times, frames, sound = probe(tmp_path / "out.mp4")
    before = probe(clip)
    assert times == before[0] and sound == before[2]
    for a, b in zip(before[1], frames, strict=True):
        assert psnr(b[:, :64], a) > 32
        assert psnr(b[:, 64 + BAR :], 255 - a if model is Invert else a) > 32


def test_the_bar_is_labelled_where_there_is_room():
    small, large = (SideBySide(VideoInfo(8, h, Fraction(1), Fraction(1)))._bar for h in (20, 240))
    assert small.shape == (20, BAR, 3) and np.unique(small).size == 1
    assert large.shape == (240, BAR, 3) and large.max() > 200
    # The letters keep clear of the edges and sit around the middle.
    ink = np.nonzero((large > 100).any(axis=2))
    assert ink[1].min() >= 1 and ink[1].max() <= BAR - 2
    assert abs((ink[0].min() + ink[0].max()) / 2 - 120) < 6


@pytest.mark.parametrize("slow", ["network", "encoder"])
@pytest.mark.parametrize("model", [Identity, Delayed])
def test_memory_does_not_grow_with_the_length(tmp_path, monkeypatch, slow, model):
    clip = write_clip(tmp_path / "in.mp4", 60, audio=("aac",))
    frames, alive, create = weakref.WeakSet(), [], Frame.__init__

    def register(self, *args, **kwargs):
        create(self, *args, **kwargs)
        frames.add(self)

    class Watching(model):
        def restore(self, frame):
            if slow == "network":
                time.sleep(0.01)
            alive.append(len(frames))
            return super().restore(frame)

    monkeypatch.setattr(Frame, "__init__", register)
    monkeypatch.setattr("rirn.video.pipeline.QUEUED_BYTES", 0)
    if slow == "encoder":
        write = VideoWriter.write
        monkeypatch.setattr(VideoWriter, "write", lambda *args: (time.sleep(0.02), write(*args)))
    deblur(Watching(), clip, tmp_path / "out.mp4", progress=False)
    # Two full queues, a frame in the hands of each stage, the encoder's copy, what the network holds back.
    assert len(alive) == 60
    assert QUEUED <= max(alive) <= 2 * QUEUED + 4 + model.delay


def test_as_many_frames_wait_for_the_encoder_as_fit_in_some_memory():
    sizes = {(640, 272): MOST_QUEUED, (1280, 720): 48, (3840, 2160): 5, (7680, 4320): QUEUED}
    for (width, height), frames in sizes.items():
        info = VideoInfo(width, height, Fraction(1, 25), Fraction(25))
        assert frames_ahead(info) == frames
        assert QUEUED <= frames_ahead(replace(info, bits=10)) <= frames


def test_a_broken_stream_keeps_what_was_restored(tmp_path):
    clip = write_clip(tmp_path / "in.mkv", 40, audio=("aac",), options={"g": "5", "bf": "0"})
    data = clip.read_bytes()
    clip.write_bytes(data[: int(len(data) * 0.6)])
    for model in (Identity, Delayed):
        with pytest.raises(BrokenStream) as caught:
            deblur(model(), clip, tmp_path / "out.mp4", progress=False)
        times, _, _ = probe(tmp_path / "out.mp4")
        assert 5 < len(times) == caught.value.frames < 40
        assert sorted(os.listdir(tmp_path)) == ["in.mkv", "out.mp4"]


def test_a_bad_image_keeps_the_ones_before(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(4):
        Image.fromarray(picture(64, 48, i)).save(tmp_path / "in" / f"{i}.png")
    data = (tmp_path / "in" / "2.png").read_bytes()
    (tmp_path / "in" / "2.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenStream, match=r"2\.png"):
        deblur(Delayed(), tmp_path / "in", tmp_path / "out", progress=False)
    assert sorted(os.listdir(tmp_path / "out")) == ["0.png", "1.png"]
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.parametrize("at", [0, 1, 8])
@pytest.mark.parametrize("target", ["out.mp4", "out"])
def test_an_error_in_the_network_comes_once_and_leaves_nothing(tmp_path, clip, at, target):
    class Failing(Identity):
        def restore(self, frame):
            if len(self.states) > at:
                raise ZeroDivisionError("seeded")
            return frame

    with pytest.raises(ZeroDivisionError, match="seeded"):
        deblur(Failing(), clip, tmp_path / target, progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_an_existing_result_survives_a_failure(tmp_path, clip):
    class Failing(Identity):
        def restore(self, frame):
            raise ZeroDivisionError

    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        deblur(Failing(), clip, tmp_path / "out.mp4", progress=False)
    assert (tmp_path / "out.mp4").read_bytes() == b"old"


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
def test_values_that_are_not_finite_are_an_error(tmp_path, clip, value):
    class Overflowing(Identity):
        def restore(self, frame):
            frame = frame.clone()
            frame[0, 1, 3, 4] = value if len(self.states) == 6 else 0
            return frame

    with pytest.raises(RirnError, match="not finite for frame 5"):
        deblur(Overflowing(), clip, tmp_path / "out.mp4", progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_too_little_memory_is_one_sentence(tmp_path, clip):
    class Hungry(Identity):
        def restore(self, frame):
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RirnError, match="64x48 does not fit"):
        deblur(Hungry(), clip, tmp_path / "out.mp4", progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


def test_an_error_of_the_encoder_comes_once_and_leaves_nothing(tmp_path, clip, monkeypatch):
    def fail(self, frame):
        raise RirnError("The disk is full")

    monkeypatch.setattr(VideoWriter, "write", fail)
    with pytest.raises(RirnError, match="disk is full"):
        deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize("fault", ["shape", "count", "flush"])
def test_a_network_that_breaks_the_contract_is_told_so(tmp_path, clip, fault):
    class Faulty(Delayed):
        def step(self, frame, state):
            sharp, state = super().step(frame, state)
            return (sharp[..., :-1] if fault == "shape" and sharp is not None else sharp), state

        def flush(self, state):
            held = super().flush(state)
            return {"shape": held, "count": held * 2, "flush": []}[fault]

    words = {"shape": "shape", "count": "more frames", "flush": "kept 2 frames back"}[fault]
    with pytest.raises(RuntimeError, match=words):
        deblur(Faulty(), clip, tmp_path / "out.mp4", progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.fixture
def heeds_ctrl_c():
    """Python's own answer to SIGINT, which shells make a background job, and so its tests, ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeds_ctrl_c")
@pytest.mark.parametrize("at", [0, 7])
def test_ctrl_c_keeps_a_playable_file(tmp_path, clip, at):
    class Interrupted(Identity):
        def restore(self, frame):
            if len(self.states) > at:
                signal.raise_signal(signal.SIGINT)
            return frame

    with pytest.raises(KeyboardInterrupt):
        deblur(Interrupted(), clip, tmp_path / "out.mp4", progress=False)
    if at:
        assert probe(tmp_path / "out.mp4")[0] == probe(clip)[0][:at]
        assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4", "out.mp4.resume"]
    else:
        assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_second_ctrl_c_leaves_nothing(tmp_path, clip, monkeypatch):
    class Interrupted(Identity):
        def restore(self, frame):
            if len(self.states) > 3:
                raise KeyboardInterrupt
            return frame

    monkeypatch.setattr(VideoWriter, "finish", lambda self: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        deblur(Interrupted(), clip, tmp_path / "out.mp4", progress=False)
    assert os.listdir(tmp_path) == ["in.mp4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "fp8"}, "'fp8'"),
        ({"device": "toaster"}, "'toaster'"),
        ({"source": "missing.mp4"}, "does not exist"),
        ({"target": "in.mp4"}, "is the input itself"),
        ({"target": "no/out.mp4"}, "does not exist"),
        ({"target": "out.gif"}, "'.gif'"),
        (
            {"encoding": Encoding(preset="quick")},
            "libx264 does not start with crf=18 preset=quick on yuv420p",
        ),
        ({"encoding": Encoding(codec="h265")}, "no encoder 'h265'"),
        ({"encoding": Encoding(codec="aac")}, "aac is for audio"),
        (
            {"encoding": Encoding(codec="prores_ks")},
            ".mp4 files cannot hold what the encoder prores_ks makes",
        ),
        ({"encoding": Encoding(options={"tuna": "film"})}, "libx264 has no option 'tuna'"),
        ({"encoding": Encoding(codec="ffv1", crf=18), "target": "out.mkv"}, "ffv1 has no option 'crf'"),
        ({"encoding": Encoding(crf=-1)}, "factor of -1"),
        ({"encoding": Encoding(crf=99)}, "factor of 99"),
        ({"encoding": Encoding(pix_fmt="yuv420p"), "source": "odd"}, "on yuv420p frames of 63x47"),
        ({"source": "odd", "rate": 0}, "frame rate of 0"),
        ({"source": "odd", "rate": Fraction("1e400")}, "frame rate of 1.00000e+400"),
        ({"tile": 50}, "tile of 50"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_and_leave_nothing(tmp_path, clip, options, words):
    arguments = {"source": "in.mp4", "target": "out.mp4", **options}
    source, target = tmp_path / arguments.pop("source"), tmp_path / arguments.pop("target")
    (tmp_path / "odd").mkdir()
    Image.new("RGB", (63, 47)).save(tmp_path / "odd" / "0.png")
    before, network = digest(clip), Identity()
    with pytest.raises(RirnError, match=re.escape(words)) as caught:
        deblur(network, source, target, progress=False, **arguments)
    assert "\n" not in str(caught.value) and not network.states
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "odd"] and digest(clip) == before


def test_a_missing_gpu_is_one_sentence(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RirnError, match="give cpu"):
        deblur(Identity(), clip, tmp_path / "out.mp4", device="cuda:0")


def test_progress_goes_to_a_terminal_on_stderr(tmp_path, clip, capsys, monkeypatch):
    deblur(Identity(), clip, tmp_path / "out.mp4")
    assert capsys.readouterr() == ("", "")  # no terminal, no bar
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    deblur(Identity(), clip, tmp_path / "out.mp4")
    out, err = capsys.readouterr()
    assert out == "" and "12/12" in err and "frame/s" in err
    deblur(Identity(), clip, tmp_path / "out.mp4", progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("model", [Identity, Delayed])
def test_the_gpu_gives_the_same_pictures(tmp_path, clip, model):
    for device in ("cpu", "cuda"):
        deblur(model(), clip, tmp_path / device, device=device, progress=False)
    for name in os.listdir(tmp_path / "cpu"):
        with Image.open(tmp_path / "cpu" / name) as a, Image.open(tmp_path / "cuda" / name) as b:
            assert np.array_equal(np.array(a), np.array(b))
