"""How well decoding, network and encoding overlap: `python -m tests.video.overlap [CLIP [ROUNDS]]`.

First three stages that only wait, a quarter of a second for each frame: what the queues alone cost, also on a busy machine.
Then real decoding and encoding of frames so small that they take little of it, around a network that waits for a tenth of a
second: what the encoder's look-ahead costs at the end of a clip, and putting segments together.

Then, of a clip, each stage alone, and all together. Beside `rirn-small` there are networks that only wait, as a CPU does for a
GPU: as long as the slower of decoding and encoding takes, where overlap is hardest to reach, and half as long. Rounds go by
turns; the figures are medians. Where three stages have fewer cores than they would fill, or share them with other programs,
none can be as fast as alone. So the last column divides by the time that the busiest stage worked inside the same run.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

import rirn
from rirn.video import Reader, VideoWriter, deblur
from tests.video.clips import write_clip
from tests.video.test_pipeline import Frames, Network, Writer, run


class Waiting(torch.nn.Module):
    """Returns each frame as it is, after some seconds."""

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds

    def step(self, frame, state):
        time.sleep(self._seconds)
        return frame, None


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def decode(clip):
    with Reader(clip) as reader:
        return reader.info, list(reader)


def encode(info, frames, target):
    writer = VideoWriter(target, info)
    for frame in frames:
        writer.write(frame)
    writer.finish()


def restore(model, frames):
    state = None
    with torch.inference_mode():
        for frame in frames:
            image = torch.from_numpy(frame.rgb).permute(2, 0, 1)[None] / 255
            _, state = model.step(image, state)


def structure(frames=40, seconds=0.25):
    """Time of three stages that wait for each frame, over that of one alone."""

    def wait(number):
        time.sleep(seconds)

    together = timed(lambda: run(Frames(frames, wait), Network(wait), Writer(wait)))
    return together / timed(lambda: [wait(i) for i in range(frames)])


def around_a_network(frames, seconds=0.1):
    """Time of `deblur` over that of its network, which is the slowest stage."""
    with tempfile.TemporaryDirectory() as folder:
        clip = write_clip(Path(folder) / "in.mp4", frames, 96, 64)
        run = deblur(Waiting(seconds), clip, Path(folder) / "out.mp4", progress=False)
    return run.seconds / run.busy.model


def main(clip=None, rounds=3):
    print(f"three stages that wait: {structure():.3f} times one of them, 1.050 at best", flush=True)
    for count in (100, 400):
        print(f"{count} small frames: {around_a_network(count):.3f} times the network", flush=True)
    if clip is None:
        return
    info, frames = decode(clip)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mp4"
        alone = {"decode": lambda: decode(clip), "encode": lambda: encode(info, frames, target)}
        slowest = max(timed(call) for call in alone.values())
        per_frame = slowest / len(frames)
        networks = {
            "waits as long": Waiting(per_frame),
            "waits half as long": Waiting(per_frame / 2),
            "rirn-small": rirn.load("rirn-small").eval(),
        }
        print(f"{clip}: {len(frames)} frames of {info.width}x{info.height}, {rounds} rounds, seconds")
        print(
            "| network | decode | network | encode | all together | over the slowest | over its work inside |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, network in networks.items():
            calls = {**alone, "network": lambda network=network: restore(network, frames)}
            times = {kind: [] for kind in calls}
            runs = []
            for _ in range(int(rounds)):
                for kind, call in calls.items():
                    times[kind].append(timed(call))
                runs.append(deblur(network, clip, target, progress=False))
            d, e, n = (statistics.median(v) for v in times.values())
            all = statistics.median(run.seconds for run in runs)
            inside = statistics.median(run.seconds / max(vars(run.busy).values()) for run in runs)
            print(
                f"| {name} | {d:.2f} | {n:.2f} | {e:.2f} | {all:.2f} | {all / max(d, e, n):.2f} | {inside:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
