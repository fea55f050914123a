"""Many videos: what is meant, who does which, and one failure that does not stop the others."""

import subprocess
import sys

import pytest

import rirn
from rirn.cli import main
from rirn.errors import RirnError
from rirn.video.batch import Job, in_process, plan, run_all
from tests.video.clips import probe, write_clip


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("b.mp4", "a.mkv", "c.avi"):
        (folder / name).touch()
    (folder / "notes.txt").touch()
    return folder


def test_a_folder_of_videos_and_a_pattern_mean_many(clips, tmp_path):
    jobs = plan([str(clips)], str(tmp_path / "out"))
    assert [(j.source.split("/")[-1], j.target.split("/")[-1]) for j in jobs] == [
        ("a.mkv", "a.mkv"),
        ("b.mp4", "b.mp4"),
        ("c.avi", "c.mkv"),
    ]
    assert [j.source for j in plan([f"{clips}/*.mp4"], "out")] == [str(clips / "b.mp4")]
    assert plan([str(clips / "b.mp4")], "x.mp4") == [Job(str(clips / "b.mp4"), "x.mp4")]


@pytest.mark.parametrize(
    ("sources", "target", "words"),
    [
        (["{clips}/*.mov"], "out", "No file matches"),
        (["{clips}/a.mkv", "{clips}/b.mp4"], "out.mp4", "give a folder"),
        (["{clips}/a.mkv", "{clips}/a.mov"], "out", None),
        (["{clips}/a.avi", "{clips}/a.mkv"], "out", "would both become"),
        (["-", "{clips}/b.mp4"], "out", "restore it alone"),
    ],
)
def test_what_cannot_be_meant_is_refused(clips, sources, target, words):
    sources = [s.format(clips=clips) for s in sources]
    if words is None:
        assert len(plan(sources, target)) == 2
        return
    with pytest.raises(RirnError, match=words):
        plan(sources, target)


@pytest.mark.parametrize("workers", [1, 3])
def test_failures_are_collected(workers):
    def restore(job):
        if job.source == "1":
            raise RirnError("a sentence")
        if job.source == "3":
            raise ZeroDivisionError("seeded")
        done.append(job.source)

    done = []
    failures = run_all([Job(str(i), "") for i in range(5)], restore, workers)
    assert [(job.source, reason) for job, reason in failures] == [
        ("1", "a sentence"),
        ("3", "ZeroDivisionError: seeded"),
    ]
    assert sorted(done) == ["0", "2", "4"]


def test_what_another_process_warned_of_is_passed_on(capsys, monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout="a.mp4: 3 frames\n", stderr="rirn: a warning\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: done)
    in_process(Job("a.mp4", "out/a.mp4"), [], 1)
    assert capsys.readouterr() == (done.stdout, done.stderr)


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_failure_does_not_stop_the_others(tmp_path, capfd, monkeypatch, jobs):
    weights = tmp_path / "identity.safetensors"
    rirn.save_weights(rirn.create_model("ifi-rnn", width=0.2, residual=True), weights)
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        write_clip(folder / name, 3)
    (folder / "b.mp4").write_text("no video\n" * 100)
    monkeypatch.setattr(sys, "argv", ["rirn"])
    command = [
        "deblur",
        str(folder),
        str(tmp_path / "out"),
        "--model",
        str(weights),
        "--jobs",
        str(jobs),
        "--resume",
    ]
    assert main(command) == 1
    captured = capfd.readouterr()
    assert "1 of 3 videos failed" in captured.err and captured.err.count("b.mp4") >= 1
    assert "Traceback" not in captured.err and captured.out.count(": 3 frames in") == 2
    for name in ("a.mp4", "c.mp4"):
        assert probe(tmp_path / "out" / name)[0] == probe(folder / name)[0]
    if jobs == 1:
        assert main(command) == 1  # what is done is not done again
        captured = capfd.readouterr()
        assert "1 of 1 videos failed" in captured.err and "frames" not in captured.out


@pytest.mark.slow
def test_a_failure_in_one_process_does_not_stop_the_other(tmp_path):
    weights = tmp_path / "identity.safetensors"
    rirn.save_weights(rirn.create_model("ifi-rnn", width=0.2, residual=True), weights)
    folder, out = tmp_path / "clips", tmp_path / "out"
    folder.mkdir()
    # The second process has failed long before the first one is through.
    for name, frames in (("a.mp4", 150), ("c.mp4", 3), ("e.mp4", 3)):
        write_clip(folder / name, frames)
    for name in ("b.mp4", "d.mp4", "f.mp4"):
        (folder / name).write_text("no video\n" * 100)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "rirn", "deblur", folder, out, "--model", weights]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 1 and "3 of 6 videos failed, the others are done." in done.stderr
    assert done.stdout.count(" frames in ") == 3
    for name, frames in (("a.mp4", 150), ("c.mp4", 3), ("e.mp4", 3)):
        assert len(probe(out / name)[0]) == frames
