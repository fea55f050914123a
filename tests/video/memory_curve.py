"""Resident memory over a run of 50 and of 500 frames: `python -m tests.video.memory_curve FOLDER` writes CSV and PNG there."""

import csv
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.video.clips import write_clip

LENGTHS = (50, 500)

# In a process of its own, so that the runs share nothing. argv: source, target.
RUN = """
import re, sys
import rirn
from rirn.video import deblur
model, frames = rirn.load("rirn-small"), 0
step = model.step
def watched(frame, state):
    global frames
    result = step(frame, state)
    frames += 1
    if frames % 10 == 0 or frames < 10:
        status = open("/proc/self/status").read()
        print(frames, re.search(r"VmRSS:\\s+(\\d+)", status)[1], re.search(r"VmHWM:\\s+(\\d+)", status)[1])
    return result
model.step = watched
deblur(model, sys.argv[1], sys.argv[2], progress=False)
"""


def curve(frames):
    """(frames restored, resident KiB, highest KiB so far) by the way."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "in.mp4", frames, 128, 96, options={"preset": "ultrafast"})
        command = [sys.executable, "-c", RUN, str(clip), str(Path(folder) / "out.mp4")]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [tuple(map(int, re.findall(r"\d+", line))) for line in out.splitlines()]


def main(folder):
    curves = {frames: curve(frames) for frames in LENGTHS}
    with (folder / "deblur-memory.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["frames_of_clip", "frames_restored", "resident_kib", "highest_kib"])
        writer.writerows((frames, *row) for frames, rows in curves.items() for row in rows)
    for frames, rows in curves.items():
        print(f"{frames} frames: at most {rows[-1][2] / 1024:.1f} MiB")
    draw(curves, folder / "deblur-memory.png")


def draw(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for frames, rows in curves.items():
        width = 5 if frames == LENGTHS[0] else 1.5  # the shorter one would hide below the longer one
        axes.plot(
            [r[0] for r in rows], [r[1] / 1024 for r in rows], linewidth=width, label=f"{frames} frames"
        )
    highest = max(row[2] for rows in curves.values() for row in rows) / 1024
    axes.set(xlabel="frames restored", ylabel="resident memory, MiB", ylim=(0, 1.2 * highest))
    axes.legend(loc="center")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
