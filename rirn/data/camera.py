"""What a camera and its codec do to frames beside motion blur: size, defocus, tone, noise, compression.

Motion blur happens before all of this (:mod:`rirn.data.synthesis`, :mod:`rirn.data.scenes`). Size, defocus and tone change a clip
and its truth alike; noise and compression change the blurry frames alone, unless :attr:`Camera.spoil_truth` says otherwise.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import TypeAlias

from rirn.data.defocus import one_side, over_disc
from rirn.data.ranges import check_ranges, check_rates
from rirn.data.synthesis import from_linear, to_linear
from rirn.errors import RirnError
from rirn.lazy import Later

np = Later("numpy")
torch = Later("torch")
F = Later("torch.nn.functional")
Image = Later("PIL.Image")

Clip: TypeAlias = "np.ndarray"
"""uint8 [T, H, W, 3], RGB."""


@dataclasses.dataclass(frozen=True)
class Camera:
    """How often a clip undergoes each change, and how strong it is; every probability applies once per clip."""

    scale_rate: float = 0.35
    """Probability that the clip is filmed at less than full size."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Its size in that case, relative to the material."""
    defocus_rate: float = 0.0
    """Probability that the picture is out of focus, along one side or all over. The truth keeps the defocus: networks that never
    see it sharpen what was never sharp."""
    defocus: tuple[float, float] = (0.5, 4.0)
    """Least and largest radius of its circle of confusion in pixels, drawn log-uniformly."""
    tone_rate: float = 0.2
    """Probability of a change of exposure and contrast."""
    noise_rate: float = 0.2
    """Probability of sensor noise."""
    noise: tuple[float, float] = (1.0, 8.0)
    """Its standard deviation at middle grey, in levels of 255; half of the variance grows with the light, as shot noise does."""
    h264_rate: float = 0.35
    """Probability that the frames were stored as H.264."""
    crf: tuple[int, int] = (17, 32)
    """Its constant rate factor: 17 looks lossless, 32 is plainly damaged."""
    jpeg_rate: float = 0.05
    """Probability that they were stored as individual JPEGs instead; at most what ``h264_rate`` leaves."""
    jpeg: tuple[int, int] = (60, 95)
    """JPEG quality."""
    spoil_truth: bool = False
    """Whether the truth goes through the same codec. By default it stays clean, so that networks also remove artefacts."""

    def __post_init__(self) -> None:
        check_rates(
            "camera", self, "scale_rate", "defocus_rate", "tone_rate", "noise_rate", "h264_rate", "jpeg_rate"
        )
        limits = {
            "scale": (0.1, 1),
            "defocus": (0.1, 50),
            "noise": (0, 255),
            "crf": (0, 51),
            "jpeg": (1, 100),
        }
        check_ranges("camera", self, limits)

    def draw_scale(self, rng: np.random.Generator) -> float:
        """Draw the size of the clip relative to its material."""
        scale = rng.uniform(*self.scale)
        return float(scale) if rng.random() < self.scale_rate else 1.0

    def film(self, blurry: Clip, sharp: Clip, rng: np.random.Generator) -> tuple[Clip, Clip]:
        """Apply defocus, tone, noise and compression to a clip of the final size.

        All settings use the same number of draws, except that those of the defocus come first, if it ever happens.
        """
        if self.defocus_rate and rng.random() < self.defocus_rate:
            radius = float(np.exp(rng.uniform(*np.log(self.defocus))))
            where = one_side(*blurry.shape[1:3], rng)
            blurry, sharp = (defocus(clip, radius, where) for clip in (blurry, sharp))
        tone, noise, codec = rng.random(3)
        gain, contrast = rng.uniform(0.6, 1.25), rng.uniform(0.8, 1.25)
        sigma, seed = rng.uniform(*self.noise), int(rng.integers(1 << 31))
        crf, quality = (
            int(rng.integers(self.crf[0], self.crf[1] + 1)),
            int(rng.integers(*self.jpeg, endpoint=True)),
        )
        if tone < self.tone_rate:
            curve = tone_curve(gain, contrast)
            blurry, sharp = curve[blurry], curve[sharp]
        if noise < self.noise_rate:
            blurry = add_noise(blurry, sigma, np.random.default_rng(seed))
        if codec < self.h264_rate:
            blurry = through_h264(blurry, crf)
            sharp = through_h264(sharp, crf) if self.spoil_truth else sharp
        elif codec < self.h264_rate + self.jpeg_rate:
            blurry = through_jpeg(blurry, quality)
            sharp = through_jpeg(sharp, quality) if self.spoil_truth else sharp
        return blurry, sharp


IDEAL = Camera(scale_rate=0, tone_rate=0, noise_rate=0, h264_rate=0, jpeg_rate=0)
"""A camera that changes nothing."""


def defocus(clip: Clip, radius: float, where: torch.Tensor) -> Clip:
    """Take a clip out of focus; ``where`` [H, W] in [0, 1] is the share of the light that spreads over a disc of this radius."""
    light = torch.from_numpy(to_linear(clip)).permute(0, 3, 1, 2)
    light = light + (over_disc(light, radius) - light) * where
    return from_linear(light.permute(0, 2, 3, 1).numpy())


def tone_curve(gain: float, contrast: float) -> np.ndarray:
    """uint8 [256]: light times ``gain``, then values around middle grey times ``contrast``."""
    value = from_linear(to_linear(np.arange(256, dtype=np.uint8)) * gain).astype(np.float32)
    return np.clip(np.rint(128 + contrast * (value - 128)), 0, 255).astype(np.uint8)


def add_noise(clip: Clip, sigma: float, rng: np.random.Generator) -> Clip:
    """Gaussian noise whose variance is half constant and half proportional to the value, ``sigma`` levels at 128."""
    values = clip.astype(np.float32)
    spread = sigma * np.sqrt(0.5 + values * (0.5 / 128))
    return np.clip(np.rint(values + spread * rng.standard_normal(clip.shape, np.float32)), 0, 255).astype(
        np.uint8
    )


REPEATS_FROM = 256
"""Width below which x264 runs without its macroblock tree: with it, one of some hundred 32x32 clips was not repeatable."""


def through_h264(clip: Clip, crf: int) -> Clip:
    """Encode a clip with libx264 at a constant rate factor (preset fast, 4:2:0), and decode it again.

    Raises:
        RirnError: PyAV is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise RirnError(
            "clips compressed as H.264 need PyAV: pip install av, or set camera.h264_rate to 0"
        ) from error
    height, width = clip.shape[1:3]
    padded = np.pad(clip, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    options = {"crf": str(crf), "preset": "fast"}
    if width < REPEATS_FROM:
        options["x264-params"] = "mbtree=0"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *padded.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in padded:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        container.streams.video[0].codec_context.thread_count = 1
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(decoded)[:, :height, :width]


def through_jpeg(clip: Clip, quality: int) -> Clip:
    """Encode each frame as a JPEG, and decode it again."""
    return np.stack([_through_jpeg(frame, quality) for frame in clip])


def _through_jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resize(frames: Sequence[np.ndarray] | Clip, size: tuple[int, int]) -> Clip:
    """Resize uint8 [H, W, 3] frames to (height, width), with the filter widened where they shrink."""
    images = torch.from_numpy(np.ascontiguousarray(np.stack(frames))).permute(0, 3, 1, 2)
    resized = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
