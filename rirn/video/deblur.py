"""Restore a video: decoding, network and encoding overlap, in memory that does not grow with the length."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rirn.devices import pick_device
from rirn.errors import RirnError
from rirn.video.companions import Companions
from rirn.video.compare import SideBySide
from rirn.video.encoding import Encoding
from rirn.video.files import PIPE, check_target, is_image_folder
from rirn.video.frames import HDR_TRANSFERS, BrokenStream, VideoInfo
from rirn.video.live import PipeOutput
from rirn.video.parts import Parts, PartsOutput, fingerprint, source_settings
from rirn.video.photos import PhotoOutput, is_photo
from rirn.video.pipeline import QUEUED, Busy, Output, Pipeline, frames_ahead
from rirn.video.reader import Reader
from rirn.video.restore import Restorer, pick_dtype, set_strength
from rirn.video.scenes import CutDetector
from rirn.video.tiles import ALIGN, SMALLEST, Tiled
from rirn.video.writer import check_encoding

log = logging.getLogger("rirn.video")


@dataclass(frozen=True)
class Summary:
    """What `deblur` did: frames written, wall-clock seconds until the file was closed, where, what size.

    `resumed` of the frames were there from an earlier run, `dropped` came from a camera while the network was
    busy. `busy` has the seconds that each stage worked.
    """

    frames: int
    seconds: float
    target: Path
    width: int
    height: int
    resumed: int = 0
    dropped: int = 0
    busy: Busy = field(default_factory=Busy)

    @property
    def fps(self) -> float:
        """Frames per second, decoding and encoding included."""
        return (self.frames - self.resumed) / self.seconds


def deblur(
    model: torch.nn.Module,
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "fp32",
    strength: float = 1.0,
    compare: bool = False,
    progress: bool = True,
    encoding: Encoding | None = None,
    rate: Fraction | int = 25,
    raw_size: tuple[int, int] | None = None,
    tile: int | str | None = "auto",
    scene_reset: bool = True,
    resume: bool = False,
    hdr: str = "refuse",
) -> Summary:
    """Run every frame of `source` through a recurrent `model` and write the result to `target`.

    Frames out equal frames in, with the same time stamps; sound, subtitles, chapters and tags come along as
    they are. The recurrent state goes from the first frame of a scene to its last without a break. `target`
    appears when it is complete. If the input breaks off, or on Ctrl-C, what was restored until then is closed
    properly and kept as `target`. After Ctrl-C or a failure the finished parts wait in `<target>.resume`.

    Args:
        model: `model.step(frame, state) -> (sharp, state)` with frame and sharp [1, 3, H, W], RGB in 0..1,
            and `state` None at the start. If `model.delay` (default 0) is above 0, `sharp` is None for that
            many first frames and `model.flush(state)` returns the list of the frames still to come. It is
            moved to `device` and `dtype` in place and set to evaluation.
        source: a video file, a folder of images, "-" or a camera, see `Reader`; never changed.
        target: a video file (.mp4, .m4v, .mov, .mkv; replaced if it exists), a folder of PNG images (empty
            if it exists), or "-" for y4m (raw RGB if the source is raw) on the standard output.
        device: where the network runs.
        dtype: "fp32", "bf16" or "fp16", for weights and frames.
        strength: factor on the difference to the input, 0 to 1.5; other than 1 with residual networks only.
        compare: write input and result side by side instead of the result alone.
        progress: show a progress bar on stderr if that is a terminal.
        encoding: encoder and options; by default what plays everywhere.
        rate: frames per second of a folder of images, or of raw frames.
        raw_size: (width, height) of raw frames on the standard input.
        tile: see `Tiled`.
        scene_reset: forget the state at a cut.
        resume: continue what an interrupted run with the same settings left, if it left something.
        hdr: "refuse", or "pass" to restore the code values of an HDR video as if they were SDR.

    Returns:
        Summary: what was done.

    Raises:
        RirnError: the input cannot be read, the output not written, the network does not fit in memory or
            returns non-finite values.
        BrokenStream: the input is cut short or damaged; the frames before are in `target`.
        KeyboardInterrupt: after closing `target`.

    Example:
        >>> summary = deblur(model, "clip.mp4", "sharp.mp4", progress=False)
        >>> summary.frames, summary.width, summary.height
        (2, 64, 48)
    """
    device, torch_dtype = pick_device(device), pick_dtype(dtype)
    set_strength(model, strength)
    _check_tile(tile)
    check_target(source, target)
    with Reader(source, rate=rate, raw_size=raw_size) as reader:
        _check_hdr(source, reader.info, hdr)
        for what in reader.not_kept:
            log.warning("%s: %s.", source, what)
        begin = time.perf_counter()
        model = model.to(device=device, dtype=torch_dtype).eval()
        joined = SideBySide(reader.info) if compare else None
        info = joined.info if joined else reader.info
        tiled = Tiled(model, tile)
        tiled.prepare((reader.info.height, reader.info.width), device, torch_dtype)
        restorer = Restorer(tiled, device, torch_dtype, CutDetector() if scene_reset else None)
        checkpoint: dict[str, Any] | None = None
        if os.fspath(target) == PIPE:
            output: Output = PipeOutput(info, raw=raw_size is not None)
            ahead = QUEUED  # a frame leaves at once, and whoever waits for it wants it soon
        elif is_photo(target) and not is_image_folder(target):
            kept = None if compare else reader.path
            output, ahead = PhotoOutput(Path(os.path.realpath(target)), kept), QUEUED
        else:
            encoding = _encoding(target, info, encoding or Encoding())
            settings = {
                "model": fingerprint(model),
                "device": device.type,
                "dtype": dtype,
                "tile": tile,
                "scene_reset": scene_reset,
                "compare": compare,
                "encoding": encoding and vars(encoding),
                "rate": str(rate),
            }
            if strength != 1:
                settings["strength"] = strength
            if reader.can_rewind:
                settings |= source_settings(reader.path)
            parts = Parts(Path(os.path.realpath(target)), settings, resume=resume and reader.can_rewind)
            try:
                checkpoint = parts.checkpoint(device)
                companions = _companions(reader, target, encoding)
            except BaseException:
                parts.abandon()
                raise
            output = PartsOutput(
                parts,
                info,
                encoding,
                companions=companions,
                frames=checkpoint["frames"] if checkpoint else 0,
                can_resume=reader.can_rewind,
            )
            _rehearse(output)
            ahead = frames_ahead(info)
        resumed = output.frames
        bar = tqdm(
            total=reader.info.frames,
            initial=resumed,
            unit="frame",
            file=sys.stderr,
            disable=None if progress else True,
            dynamic_ncols=True,
        )
        pipeline = Pipeline(reader, restorer, output, joined=joined, ahead=ahead, on_result=bar.update)
        with bar, _problems_said(source, target, output):
            pipeline.run(checkpoint)
        seconds = time.perf_counter() - begin
    return Summary(
        output.frames,
        seconds,
        Path(target),
        info.width,
        info.height,
        resumed,
        pipeline.dropped,
        pipeline.busy,
    )


def _companions(reader: Reader, target: str | os.PathLike, encoding: Encoding | None) -> Companions | None:
    """What comes along with the pictures in a video named `target`."""
    if encoding is None or not reader.has_other_streams:
        return None
    return Companions(reader.path, reader.stream_index, Path(os.path.realpath(target)))


def _rehearse(output: PartsOutput) -> None:
    try:
        output.rehearse()
    except BaseException:
        output.fail()
        raise


@contextmanager
def _problems_said(source: str | os.PathLike, target: str | os.PathLike, output: Output) -> Iterator[None]:
    """Raise if the whole is there but not all that belongs to it."""
    try:
        yield
    except BrokenStream as error:
        if not getattr(output, "problems", []):
            raise
        raise BrokenStream(
            f"{str(error).rstrip('.')}; also, {'; '.join(output.problems)}.", error.frames
        ) from error
    if getattr(output, "problems", []):
        raise BrokenStream(
            f"{source} is damaged: {target} is written, but {'; '.join(output.problems)}.", output.frames
        )


def _check_tile(tile: int | str | None) -> None:
    valid = tile in ("auto", None) or (isinstance(tile, int) and tile >= SMALLEST and tile % ALIGN == 0)
    if not valid:
        raise RirnError(
            f"A tile of {tile} pixels is not possible; use auto, off, or a multiple of {ALIGN} of at least {SMALLEST}."
        )


def _encoding(target: str | os.PathLike, info: VideoInfo, encoding: Encoding) -> Encoding | None:
    """What a video named `target` is encoded with; None for a folder of images."""
    if is_image_folder(target):
        if info.bits > 8:
            log.warning(
                "The input has %d bits, and the images in %s get 8; a video keeps 10.", info.bits, target
            )
        return None
    resolved = encoding.resolve(info)
    check_encoding(Path(os.path.realpath(target)), info, resolved)
    if resolved.pix_fmt.startswith("yuv444p") and not encoding.pix_fmt:
        log.warning(
            "%dx%d has an odd side: %s gets full colour resolution (4:4:4), which some players refuse.",
            info.width,
            info.height,
            Path(target).name,
        )
    return resolved


def _check_hdr(source: str | os.PathLike, info: VideoInfo, hdr: str) -> None:
    transfer = HDR_TRANSFERS.get(info.colour.transfer)
    if transfer is None or hdr == "pass":
        return
    raise RirnError(
        f"{source} is HDR ({transfer}), which the networks were not trained on; make an SDR version first, or "
        "add --hdr pass to restore its code values as they are and keep its tags."
    )
