"""Clips, made on the spot, and stand-in networks for the tests of the video room."""

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

MS90 = Fraction(1, 90000)


def picture(width, height, index, full_range=True):
    """uint8 [H, W, 3]: a smooth pattern that differs from frame to frame and between the channels."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    phase = index / 7
    channels = [np.sin(x / 23 + phase), np.cos(y / 19 - phase), np.sin((x + y) / 31 + 2 * phase)]
    low, high = (0, 255) if full_range else (40, 215)
    return (low + (np.stack(channels, -1) + 1) / 2 * (high - low)).round().astype(np.uint8)


def write_clip(
    path,
    frames=10,
    width=64,
    height=48,
    *,
    pts=None,
    time_base=MS90,
    codec="libx264",
    pix_fmt="yuv420p",
    audio=(),
    options=None,
    container_options=None,
    metadata=None,
    matrix=None,
    **context,
):
    """Write a clip with PyAV alone; `audio` lists codecs of tones, `context` sets codec attributes."""
    pts = [3600 * i for i in range(frames)] if pts is None else pts
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = time_base
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        tones = []
        for name in audio:
            tone = container.add_stream(name, rate=48000)
            tone.metadata["language"] = "fra"
            tones.append(tone)
        for i, time in enumerate(pts):
            frame = av.VideoFrame.from_ndarray(picture(width, height, i), "rgb24")
            frame = frame.reformat(
                format=pix_fmt,
                dst_colorspace={1: 1, 2: 5, 5: 5, 6: 5, 9: 9}[context.get("colorspace", 2)],
                src_color_range=2,
                dst_color_range=context.get("color_range", 1) or 1,
            )
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for k, tone in enumerate(tones):
            for packet in encode_tone(tone, 440 * (k + 1)):
                container.mux(packet)
    return Path(path)


def encode_tone(stream, hertz, seconds=0.5):
    size = stream.codec_context.frame_size or 1024
    for start in range(0, int(48000 * seconds), size):
        t = (start + np.arange(size)) / 48000
        wave = np.sin(2 * np.pi * hertz * t).astype(np.float32) * 0.3
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=48000)
        for piece in resampler.resample(frame):
            yield from stream.encode(piece)
    yield from stream.encode()


def probe(path):
    """(frame times in seconds, RGB frames, [(audio bytes, time in seconds) per packet] per stream)."""
    times, frames = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            times.append(frame.pts * frame.time_base)
            frames.append(frame.to_ndarray(format="rgb24"))
    sound = []
    with av.open(str(path)) as container:
        for stream in container.streams.audio:
            container.seek(0)
            sound.append([(bytes(p), p.pts * p.time_base) for p in container.demux(stream) if p.size])
    return times, frames, sound


def psnr(a, b):
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Identity(torch.nn.Module):
    """Returns each frame as it is and counts in its state."""

    delay = 0

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.states, self.dtypes = [], set()

    def step(self, frame, state):
        assert torch.is_inference_mode_enabled() and not self.training
        assert frame.dim() == 4 and frame.shape[:2] == (1, 3) and frame.min() >= 0 and frame.max() <= 1
        count = 0 if state is None else state
        self.states.append(count)
        self.dtypes.add(frame.dtype)
        return self.restore(frame), count + 1

    def restore(self, frame):
        return frame * self.scale


class Invert(Identity):
    def restore(self, frame):
        return 1 - frame


class Delayed(Identity):
    """Identity that answers two frames late."""

    delay = 2

    def step(self, frame, state):
        sharp, (count, held) = None, state if state is not None else (0, [])
        self.states.append(count)
        held = [*held, self.restore(frame)]
        if len(held) > self.delay:
            sharp, *held = held
        return sharp, (count + 1, held)

    def flush(self, state):
        return state[1]
