"""Stop and go: a continued run gives the file of a run in one go, and nothing finished is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

import rirn
from rirn.errors import RirnError
from rirn.video import Encoding, VideoWriter, deblur
from tests.video.clips import Delayed, Identity, digest, picture, probe, write_clip

FRAMES = 23
UNEVEN = [0, 3600, 7200, 9000, 9500, 20000, 21000, 25000, 30000, 34000, 38000, 40000]
UNEVEN += [t + 50000 for t in UNEVEN[:-1]]


@pytest.fixture(autouse=True)
def short_segments(monkeypatch):
    monkeypatch.setattr("rirn.video.pipeline.SEGMENT", 5)


@pytest.fixture
def clip(tmp_path):
    # Where the width is no multiple of 128, x264 codes equal frames differently from run to run, see docs/deblur.md.
    return write_clip(tmp_path / "in.mp4", FRAMES, 128, 96, pts=UNEVEN, audio=("aac",))


class Mean:
    """A state that every frame so far has part in, as tensors; stops at a frame if told so."""

    def __init__(self, base, stop_at=None, reason=KeyboardInterrupt):
        class Network(base):
            def restore(self, frame):
                self.seen = getattr(self, "seen", 0) + 1
                if self.seen == stop_at:
                    raise reason
                return frame

            def step(self, frame, state):
                mean, inner = state if state is not None else (torch.zeros_like(frame), None)
                mean = (mean + frame) / 2
                sharp, inner = super().step(mean, inner)
                return sharp, (mean, inner)

            def flush(self, state):
                return super().flush(state[1])

        self.network = Network()


def run(model, clip, target, **options):
    return deblur(model, clip, target, progress=False, **options)


@pytest.mark.parametrize("base", [Identity, Delayed])
@pytest.mark.parametrize("stop_at", [3, 12, 15, 22])
@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_continued_run_equals_one_in_one_go(tmp_path, clip, base, stop_at, name):
    run(Mean(base).network, clip, tmp_path / f"whole_{name}")
    with pytest.raises(KeyboardInterrupt):
        run(Mean(base, stop_at).network, clip, tmp_path / name)
    if base is Delayed and stop_at == 3:  # nothing had come out yet
        assert os.listdir(tmp_path).count(name) == 0 and not (tmp_path / f"{name}.resume").exists()
        return
    playable = probe(tmp_path / name)[0] if name == "out.mp4" else sorted(os.listdir(tmp_path / name))
    assert 0 < len(playable) < FRAMES
    second = Mean(base).network
    summary = run(second, clip, tmp_path / name, resume=True)
    assert summary.frames == FRAMES and summary.resumed == (len(playable) // 5) * 5
    assert second.seen == FRAMES - summary.resumed - (second.delay if summary.resumed else 0)
    assert not (tmp_path / f"{name}.resume").exists()
    if name == "out.mp4":
        assert digest(tmp_path / name) == digest(tmp_path / f"whole_{name}")
        assert probe(tmp_path / name)[0] == probe(clip)[0]
    else:
        for file in sorted(os.listdir(tmp_path / "whole_out")):
            assert digest(tmp_path / "out" / file) == digest(tmp_path / "whole_out" / file)


def test_the_playable_part_ends_with_its_sound(tmp_path):
    clip = write_clip(tmp_path / "in.mp4", FRAMES, audio=("aac",))
    with pytest.raises(KeyboardInterrupt):
        run(Mean(Identity, 8).network, clip, tmp_path / "out.mp4")
    times, _, (sound,) = probe(tmp_path / "out.mp4")
    end = len(times) / 25
    assert len(times) == 7 and end - 0.05 < sound[-1][1] < end < probe(clip)[2][0][-1][1]


def test_a_real_network_continues_with_its_state(tmp_path, clip):
    torch.manual_seed(0)
    model = rirn.create_model("ifi-rnn+rirn", width=0.2)
    run(model, clip, tmp_path / "whole.mp4")
    step, seen = model.step, []

    def stopping(frame, state):
        seen.append(0)
        if len(seen) == 9:
            raise KeyboardInterrupt
        return step(frame, state)

    model.step = stopping
    with pytest.raises(KeyboardInterrupt):
        run(model, clip, tmp_path / "out.mp4")
    del model.step
    assert run(model, clip, tmp_path / "out.mp4", resume=True).resumed == 5
    assert digest(tmp_path / "out.mp4") == digest(tmp_path / "whole.mp4")


@pytest.mark.parametrize("at", [4, 14])
def test_a_crash_of_the_encoder_keeps_what_is_finished(tmp_path, clip, monkeypatch, at):
    write, count = VideoWriter.write, []

    def failing(self, frame):
        count.append(0)
        if len(count) == at:
            raise RirnError(f"Cannot write {self._path}: No space left on device")
        write(self, frame)

    before = digest(clip)
    with monkeypatch.context() as patch, pytest.raises(RirnError) as caught:
        patch.setattr(VideoWriter, "write", failing)
        run(Identity(), clip, tmp_path / "out.mp4")
    words = "No space left on device; the first 10 frames wait in"
    assert (words in str(caught.value)) == (at > 10) and digest(clip) == before
    if at < 10:
        assert os.listdir(tmp_path) == ["in.mp4"]
        return
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4.resume"]
    assert run(Identity(), clip, tmp_path / "out.mp4", resume=True).resumed == 10
    run(Identity(), clip, tmp_path / "whole.mp4")
    assert digest(tmp_path / "out.mp4") == digest(tmp_path / "whole.mp4")


@contextmanager
def files_at_most(size):
    """What a full disk is to a program: files of this process cannot grow beyond `size` bytes."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_keeps_the_input_and_what_is_finished(tmp_path, clip):
    run(Identity(), clip, tmp_path / "whole.mp4")
    size, before = (tmp_path / "whole.mp4").stat().st_size, digest(clip)
    # There is room for the segments, but not for the whole.
    full = (
        r"^Cannot write .*out\.mp4: File too large; the first 20 frames wait in .*, continue with --resume$"
    )
    with files_at_most(size - 100), pytest.raises(RirnError, match=full):
        run(Identity(), clip, tmp_path / "out.mp4")
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4.resume", "whole.mp4"]
    assert run(Identity(), clip, tmp_path / "out.mp4", resume=True).resumed == 20
    assert digest(tmp_path / "out.mp4") == digest(tmp_path / "whole.mp4") and digest(clip) == before
    # There is no room even for the first segment.
    with files_at_most(700), pytest.raises(RirnError, match="File too large"):
        run(Identity(), clip, tmp_path / "other.mp4")
    assert sorted(os.listdir(tmp_path)) == ["in.mp4", "out.mp4", "whole.mp4"] and digest(clip) == before


def test_a_killed_run_is_continued(tmp_path, clip):
    script = (
        "import os, signal, sys, time, rirn.video.pipeline as p; p.SEGMENT = 5\n"
        "from pathlib import Path\n"
        "from rirn.video import deblur; from tests.video.clips import Identity\n"
        "class Killed(Identity):\n"
        "    def restore(self, frame):\n"
        "        if len(self.states) == 18:\n"
        "            # The encoder has a thread of its own, which may be behind.\n"
        "            while not any(Path(sys.argv[2] + '.resume').glob('segment-*')): time.sleep(0.01)\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return frame\n"
        "deblur(Killed(), sys.argv[1], sys.argv[2], progress=False)"
    )
    command = [sys.executable, "-c", script, str(clip), str(tmp_path / "out.mp4")]
    done = subprocess.run(command, timeout=300)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "out.mp4").exists()

    class Killed(Identity):  # the fingerprint has the name
        pass

    resumed = run(Killed(), clip, tmp_path / "out.mp4", resume=True).resumed
    assert resumed in (5, 10, 15)  # what was written then
    run(Killed(), clip, tmp_path / "whole.mp4")
    assert digest(tmp_path / "out.mp4") == digest(tmp_path / "whole.mp4")


def interrupted(tmp_path, clip, target="out.mp4", **options):
    with pytest.raises(KeyboardInterrupt):
        run(Mean(Identity, 13).network, clip, tmp_path / target, **options)
    return tmp_path / f"{target}.resume"


def test_other_settings_are_refused_by_name(tmp_path, clip):
    parts = interrupted(tmp_path, clip)
    before = {p.name: p.read_bytes() for p in parts.iterdir()}
    other = Mean(Identity).network
    torch.nn.init.constant_(other.scale, 0.5)
    with pytest.raises(RirnError, match=r"'model' was .* and is"):
        run(other, clip, tmp_path / "out.mp4", resume=True)
    other = Mean(Identity).network
    other.config = {"atb_decay": 0.5}
    with pytest.raises(RirnError, match=r"'model' was .* and is"):
        run(other, clip, tmp_path / "out.mp4", resume=True)
    same = Mean(Identity).network
    with pytest.raises(RirnError, match=r"'encoding' was .*'18'.* and is .*'30'"):
        run(same, clip, tmp_path / "out.mp4", resume=True, encoding=Encoding(crf=30))
    os.utime(clip, (0, 0))
    with pytest.raises(RirnError, match="'changed' was"):
        run(same, clip, tmp_path / "out.mp4", resume=True)
    assert {p.name: p.read_bytes() for p in parts.iterdir()} == before


def test_parts_are_not_thrown_away_without_asking(tmp_path, clip):
    interrupted(tmp_path, clip)
    with pytest.raises(RirnError, match="continue with --resume, or delete"):
        run(Identity(), clip, tmp_path / "out.mp4")
    assert len(list((tmp_path / "out.mp4.resume").glob("segment-*"))) == 2


def test_two_runs_do_not_write_one_target(tmp_path, clip):
    pytest.importorskip("fcntl")

    class Second(Identity):
        def restore(self, frame):
            with pytest.raises(RirnError, match="being written by another run"):
                run(Identity(), clip, tmp_path / "out.mp4", resume=True)
            return frame

    assert run(Second(), clip, tmp_path / "out.mp4").frames == FRAMES


def test_a_damaged_state_is_one_sentence(tmp_path, clip):
    parts = interrupted(tmp_path, clip)
    (state,) = parts.glob("state-*")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RirnError, match="cannot be read"):
        run(Mean(Identity).network, clip, tmp_path / "out.mp4", resume=True)


def test_a_foreign_folder_is_left_alone(tmp_path, clip):
    (tmp_path / "out.mp4.resume").mkdir()
    (tmp_path / "out.mp4.resume" / "photo.jpg").touch()
    with pytest.raises(RirnError, match="in the way"):
        run(Identity(), clip, tmp_path / "out.mp4", resume=True)
    assert "photo.jpg" in os.listdir(tmp_path / "out.mp4.resume")
    (tmp_path / "file.mp4.resume").touch()
    with pytest.raises(RirnError, match="in the way"):
        run(Identity(), clip, tmp_path / "file.mp4")


def test_resume_without_parts_starts_at_the_beginning(tmp_path, clip):
    assert run(Identity(), clip, tmp_path / "out.mp4", resume=True).resumed == 0


def test_images_are_continued_in_a_folder_that_exists(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for i in range(12):
        Image.fromarray(picture(24, 16, i)).save(tmp_path / "in" / f"{i}.png")
    with pytest.raises(KeyboardInterrupt):
        run(Mean(Identity, 8).network, tmp_path / "in", tmp_path / "out")
    assert len(os.listdir(tmp_path / "out")) == 7
    run(Mean(Identity).network, tmp_path / "in", tmp_path / "out", resume=True)
    assert len(os.listdir(tmp_path / "out")) == 12 and sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.parametrize("step", ["os.link", "shutil.rmtree"])
@pytest.mark.parametrize("exists", [False, True])
def test_an_end_that_is_interrupted_loses_no_image(tmp_path, monkeypatch, step, exists):
    (tmp_path / "in").mkdir()
    if exists:
        (tmp_path / "out").mkdir()
    for i in range(12):
        Image.fromarray(picture(24, 16, i)).save(tmp_path / "in" / f"{i}.png")

    def interrupted(*args, **kwargs):
        if step == "os.link" and len(done) < 7:
            done.append(link(*args))
            return
        if step == "shutil.rmtree" and not done:
            done.append(rmtree(args[0] / "segment-000000"))
        patch.undo()
        raise KeyboardInterrupt

    link, rmtree, done = os.link, shutil.rmtree, []
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step, interrupted)
        run(Identity(), tmp_path / "in", tmp_path / "out")
    run(Identity(), tmp_path / "in", tmp_path / "out", resume=True)
    assert len(os.listdir(tmp_path / "out")) == 12 and sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_the_settings_are_plain_text(tmp_path, clip):
    settings = json.loads((interrupted(tmp_path, clip) / "settings.json").read_text())
    assert settings["dtype"] in ("fp32", "fast") and settings["source"] == str(clip)
