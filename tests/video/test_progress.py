"""How far a run is, by a clock made of numbers."""

import io
import json
from itertools import count

import pytest

from rirn.cli import main
from rirn.video.progress import Progress
from tests.video.clips import write_clip


def said(how, total, seconds_per_frame, frames, done=0):
    out, now = io.StringIO(), count(100, seconds_per_frame)
    with Progress(how, total, done, name="out.mp4", clock=lambda: next(now), file=out) as progress:
        for _ in range(frames):
            progress.update()
    return out.getvalue().splitlines()


def test_a_line_of_json_every_second():
    rows = [json.loads(line) for line in said("json", 10, 0.5, 10)]
    assert [row["frame"] for row in rows] == [2, 4, 6, 8, 10, 10]
    assert all(row["of"] == 10 and row["fps"] == 2 for row in rows[:5])
    assert [row["eta"] for row in rows] == [4, 3, 2, 1, 0, 0]


def test_what_is_not_known_is_null():
    rows = [json.loads(line) for line in said("json", None, 1, 3)]
    assert rows[0] == {"frame": 1, "of": None, "fps": 1, "eta": None}
    assert rows[-1]["of"] == 3 and rows[-1]["eta"] == 0


def test_frames_from_before_have_no_speed():
    rows = [json.loads(line) for line in said("json", 100, 1, 4, done=50)]
    assert rows[0] == {"frame": 51, "of": 100, "fps": 1, "eta": 49}


@pytest.mark.parametrize(
    ("how", "total", "line"),
    [
        ("bar", 3000, ["out.mp4: 3000 frames, about 25 min at 2 frames/s"]),
        ("bar", 30_000, ["out.mp4: 30000 frames, about 4.2 hours at 2 frames/s"]),
        ("bar", 60, []),
        ("bar", None, []),
        ("off", 3000, []),
    ],
)
def test_a_long_run_is_estimated_from_its_first_frames(how, total, line):
    assert said(how, total, 0.5, 20) == line


def test_the_command_writes_lines_of_json(tmp_path, capsys):
    clip = write_clip(tmp_path / "in.mp4", 3)
    words = ["deblur", str(clip), str(tmp_path / "out.mp4"), "--model", "rirn-tiny", "--progress", "json"]
    assert main(words) == 0
    last = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (last["frame"], last["of"], last["eta"]) == (3, 3, 0)
