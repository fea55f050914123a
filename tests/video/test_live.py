"""Pipes with real ffmpeg on both ends, raw frames, cameras, the generator and the benchmark."""

import os
import subprocess
import sys
import threading
import weakref
from fractions import Fraction

import numpy as np
import pytest
import torch

import rirn
from rirn.cli import main
from rirn.errors import RirnError
from rirn.video import Frame, Reader
from rirn.video.benchmark import benchmark
from rirn.video.channel import Channel
from rirn.video.pipeline import Pipeline
from rirn.video.restore import Restorer
from tests.video.clips import Delayed, Identity, Invert, picture, probe, psnr, write_clip
from tests.video.tools import environment


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "identity.safetensors"
    rirn.save_weights(rirn.create_model("ifi-rnn", width=0.2, residual=True), path)
    return path


def shell(command):
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=300, env=environment()
    )


@pytest.mark.parametrize(("width", "height", "pix_fmt"), [(64, 48, "yuv420p"), (17, 13, "yuv444p")], ids=str)
def test_y4m_through_pipes(tmp_path, weights, width, height, pix_fmt):
    clip = write_clip(tmp_path / "in.mkv", 7, width, height, codec="ffv1", pix_fmt=pix_fmt)
    out = tmp_path / "out.mkv"
    done = shell(
        f"ffmpeg -v error -i {clip} -strict -1 -f yuv4mpegpipe - | {sys.executable} -m rirn deblur - - --model {weights} "
        f"| ffmpeg -v error -f yuv4mpegpipe -i - -c:v ffv1 {out}"
    )
    assert done.returncode == 0, done.stderr
    before, after = probe(clip), probe(out)
    assert len(after[1]) == 7 and after[0] == before[0]
    assert min(psnr(a, b) for a, b in zip(before[1], after[1], strict=True)) > 35


def test_raw_frames_through_pipes(tmp_path, weights):
    frames = np.stack([picture(18, 10, i) for i in range(5)])
    (tmp_path / "in.raw").write_bytes(frames.tobytes())
    command = (
        f"{sys.executable} -m rirn deblur - {{}} --raw-size 18x10 --raw-fps 30000/1001 --model {weights}"
    )
    done = shell(f"cat {tmp_path}/in.raw | {command.format('-')}")
    assert done.returncode == 0 and done.stdout == frames.tobytes() and b"5 frames" in done.stderr
    done = shell(f"head -c 1000 {tmp_path}/in.raw | {command.format('-')}")
    assert done.returncode == 1 and done.stdout == frames[0].tobytes()
    assert b"460 bytes into frame 1" in done.stderr and b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path, weights):
    clip = write_clip(tmp_path / "in.mkv", 40, 128, 96)
    done = shell(f"{sys.executable} -m rirn deblur {clip} - --model {weights} | head -c 100 > /dev/null")
    assert done.returncode == 1 and b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["camera:none", "/dev/video99"])
def test_a_camera_that_is_not_there_is_one_sentence(name):
    with pytest.raises(RirnError, match="camera"):
        Reader(name)


def test_a_device_that_does_not_open_is_one_sentence(monkeypatch):
    def refuse(name, format):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("rirn.video.live._CAMERA_FORMATS", {sys.platform: "devices"})
    with pytest.raises(RirnError, match=r"without devices.* ffmpeg -f devices -i /dev/video7 "):
        Reader("/dev/video7")
    monkeypatch.setattr("av.formats_available", {"devices"})
    monkeypatch.setattr("av.open", refuse)
    with pytest.raises(RirnError, match=r"^The camera front cannot be opened: Permission denied$"):
        Reader("camera:front")


class Camera:
    """A source that cannot be held back; it goes on by as many frames as it is told to."""

    is_camera = True

    def __init__(self, frames):
        self._frames, self._permits, self._turn = frames, 0, threading.Condition()
        self._waits = False

    def frames(self, skip):
        for i in range(self._frames):
            with self._turn:
                # Whoever asks for the next frame has queued the last one.
                self._waits = not self._permits
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._permits)
                self._permits -= 1
            self.given = i
            yield Frame(picture(20, 14, i), i, Fraction(1, 25))
        with self._turn:
            self._waits = True
            self._turn.notify_all()

    def go_on(self, frames):
        """Give so many frames, and return when the last of them is queued."""
        with self._turn:
            self._permits += frames
            self._waits = False
            self._turn.notify_all()
            self._turn.wait_for(lambda: self._waits)


class Screen:
    """Keeps the numbers of the frames that it was given; `on_write` is called for each."""

    def __init__(self, on_write=lambda number: None):
        self.frames, self.seen, self._on_write = 0, [], on_write

    def write(self, frame):
        self._on_write(self.frames)
        self.seen.append(frame.pts)
        self.frames += 1

    def border(self, checkpoint):
        raise AssertionError("a camera cannot be resumed")

    complete = stop = fail = lambda self: None


def live(camera, network, screen):
    """Restore what the camera gives from its first frame on; returns how many frames were dropped."""
    restorer = Restorer(network.eval(), torch.device("cpu"), torch.float32)
    pipeline = Pipeline(camera, restorer, screen, on_result=lambda: None)
    threading.Thread(target=camera.go_on, args=(1,), daemon=True).start()
    pipeline.run()
    return pipeline.dropped


def test_a_slow_network_sees_the_newest_frame_of_a_camera():
    camera = Camera(41)

    class Slow(Identity):
        def restore(self, frame):
            if camera.given < 40:
                camera.go_on(10)
            return frame

    screen = Screen()
    assert live(camera, Slow(), screen) == 36
    assert screen.seen == [0, 10, 20, 30, 40]


def test_a_slow_encoder_is_at_most_three_frames_behind_a_camera():
    camera, queued_during = Camera(61), {0: 0}

    def slow(number):
        if camera.given < 60:
            queued_during.update(dict.fromkeys(range(camera.given + 1, camera.given + 7), number))
            camera.go_on(6)

    screen = Screen(slow)
    dropped = live(camera, Identity(), screen)
    assert len(screen.seen) + dropped == 61 and dropped > 40
    assert screen.seen == sorted(screen.seen) and screen.seen[-1] == 60
    # One frame waits on either side of the network, one is in it, and one in the encoder.
    assert max(i - queued_during[frame] for i, frame in enumerate(screen.seen)) <= 3


def test_the_newest_frame_pushes_out_the_oldest():
    channel = Channel(1)
    assert [channel.put_newest(i) for i in range(4)] == [0, 1, 1, 1]
    channel.close()
    assert list(channel) == [3]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("model", [Invert, Delayed])
def test_the_generator_gives_every_frame_back(kind, model):
    frames = [kind(picture(20, 14, i)) for i in range(6)]
    network = model()
    results = list(rirn.stream(frames, network, scene_reset=False))
    assert network.states == list(range(6)) and all(type(r) is type(frames[0]) for r in results)
    for a, b in zip(frames, results, strict=True):
        assert np.array_equal(255 - np.asarray(a) if model is Invert else np.asarray(a), np.asarray(b))


def test_the_generator_takes_no_frame_ahead_of_need():
    taken = []

    def camera():
        for i in range(10**9):
            taken.append(i)
            yield picture(20, 14, i)

    results = rirn.stream(camera(), Identity())
    assert taken == []
    for i in range(5):
        next(results)
        assert taken == list(range(i + 1))


def test_the_generator_keeps_no_frame():
    given = []

    class Array(np.ndarray):
        pass

    def camera():
        for i in range(30):
            frame = picture(20, 14, i).view(Array)
            given.append(weakref.ref(frame))
            yield frame

    alive = [sum(ref() is not None for ref in given) for _ in rirn.stream(camera(), Identity())]
    assert len(alive) == 30 and max(alive) <= 3


def test_a_frame_of_another_size_begins_a_new_video():
    network = Delayed()
    frames = [picture(20, 14, i) for i in range(4)] + [picture(30, 14, i) for i in range(3)]
    results = list(rirn.stream(frames, network, scene_reset=False))
    assert [r.shape for r in results] == [f.shape for f in frames] and network.states == [0, 1, 2, 3, 0, 1, 2]


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4)), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "frame"],
    ids=["flat", "float", "empty", "text"],
)
def test_what_is_no_frame_is_refused(frame):
    with pytest.raises(ValueError, match="frame 0 must be uint8"):
        list(rirn.stream([frame], Identity()))


def test_benchmark_counts_and_writes_nothing(tmp_path, weights, capsys):
    clip = write_clip(tmp_path / "in.mp4", 9)
    before = os.listdir(tmp_path)
    result = benchmark(Identity(), clip)
    assert result.frames == 9 and result.fps > 0 and 0 < result.latency_p50 <= result.latency_p95
    assert main(["deblur", str(clip), "--benchmark", "--model", str(weights)]) == 0
    out = capsys.readouterr().out
    assert "9 frames at" in out and "p95" in out and "decode" in out
    assert os.listdir(tmp_path) == before


MEMORY = """
import re, sys
from rirn.video import deblur
from tests.video.clips import Identity
from tests.video.tools import environment
deblur(Identity(), sys.argv[1], sys.argv[2], progress=False)
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_of_500_frames_is_that_of_50(tmp_path):
    peaks = []
    for frames in (50, 500):
        clip = write_clip(tmp_path / f"{frames}.mp4", frames, 128, 96, options={"preset": "ultrafast"})
        command = [sys.executable, "-c", MEMORY, str(clip), str(tmp_path / "out.mp4")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.05 * peaks[0], peaks
