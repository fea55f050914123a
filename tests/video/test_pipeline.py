"""Decoding, network and encoding go on at the same time, shown without a clock: each waits until the others are at work."""

import threading
from fractions import Fraction

import torch

from rirn.video import Frame
from rirn.video.pipeline import Pipeline
from rirn.video.restore import Restorer
from tests.video.clips import Identity, picture

PATIENCE = 60  # seconds after which a stage that waits in vain gives up


class Frames:
    """A source of so many frames; `on_frame` is called with the number of each."""

    is_camera = False

    def __init__(self, count, on_frame=lambda number: None):
        self._count, self._on_frame = count, on_frame

    def frames(self, skip):
        for i in range(self._count):
            self._on_frame(i)
            yield Frame(picture(20, 14, i), i, Fraction(1, 25))


class Writer:
    """Counts frames; `on_frame` is called with the number of each."""

    def __init__(self, on_frame):
        self.frames, self._on_frame = 0, on_frame

    def write(self, frame):
        self._on_frame(self.frames)
        self.frames += 1

    def border(self, checkpoint):
        raise AssertionError("the clip is shorter than a segment")

    def fail(self):
        self.failed = True

    complete = stop = lambda self: None


class Network(Identity):
    """Returns each frame as it is, after `on_frame` was called with its number."""

    def __init__(self, on_frame):
        super().__init__()
        self._on_frame = on_frame

    def restore(self, frame):
        self._on_frame(self.states[-1])
        return frame


def run(source, network, writer, **options):
    restorer = Restorer(network.eval(), torch.device("cpu"), torch.float32)
    Pipeline(source, restorer, writer, on_result=lambda: None, **options).run()


def test_all_three_stages_work_at_the_same_time():
    count = 12
    meeting = threading.Barrier(3)

    def meet(frames):
        return lambda number: number in frames and meeting.wait(PATIENCE)

    # While one frame is written, the next is in the network and the one after it is decoded.
    writer = Writer(meet(range(count - 2)))
    run(Frames(count, meet(range(2, count))), Network(meet(range(1, count - 1))), writer)
    assert writer.frames == count


def test_the_network_goes_on_while_an_encoder_ends_a_segment():
    ahead, restored = 40, threading.Semaphore(0)

    def slow(number):
        for _ in range(ahead if number == 0 else 0):
            assert restored.acquire(timeout=PATIENCE)

    writer = Writer(slow)
    run(Frames(60), Network(lambda number: restored.release()), writer, ahead=ahead)
    assert writer.frames == 60
