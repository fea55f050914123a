"""Restore a video: decoding, network and encoding overlap, and memory does not grow with the length."""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from rirn.errors import RirnError
from rirn.models.graphed import ready
from rirn.video.companions import Companions
from rirn.video.compare import SideBySide
from rirn.video.encoding import Encoding
from rirn.video.files import FORMATS, PIPE, check_target, is_image_folder, is_photo, keep_times, part_name
from rirn.video.frames import HDR_TRANSFERS, BrokenStream, VideoInfo
from rirn.video.live import PipeOutput
from rirn.video.losses import ALPHA, CAPTIONS, EXIF, STEREO, Loss
from rirn.video.options import Options
from rirn.video.parts import Parts, PartsOutput, fingerprint, source_settings
from rirn.video.photos import PhotoOutput, is_one_picture
from rirn.video.pipeline import QUEUED, Busy, Output, Pipeline, frames_ahead
from rirn.video.progress import Progress
from rirn.video.reader import Reader
from rirn.video.restore import Restorer, pick_dtype, set_strength
from rirn.video.scenes import CutDetector
from rirn.video.tiles import Tiled
from rirn.video.writer import check_encoding

log = logging.getLogger("rirn.video")

# From HDR to BT.709, in one line that works with the ffmpeg of distributions.
_TONE_MAPPING = (
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,"
    "zscale=t=bt709:m=bt709:r=tv,format=yuv420p"
)


@dataclass(frozen=True)
class Summary:
    """What ``deblur`` did: frames written, wall-clock seconds until the file was closed, where, what size.

    ``resumed`` frames were left by an earlier run, ``dropped`` ones came from a camera while the network was
    busy. ``busy`` has the seconds that each stage worked.
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
        """Frames per second, including decoding and encoding."""
        return (self.frames - self.resumed) / self.seconds


def deblur(
    model: torch.nn.Module,
    source: str | os.PathLike,
    target: str | os.PathLike,
    options: Options | None = None,
    **fields: Any,
) -> Summary:
    """Run every frame of ``source`` through a recurrent ``model`` and write the result to ``target``.

    There are as many frames out as in, with the same time stamps; sound, subtitles, chapters and tags are copied
    unchanged. The recurrent state is kept from the first frame of a scene to its last. ``target`` appears when it
    is complete. If the input breaks off, or on Ctrl-C, what was restored until then is closed properly and kept
    as ``target``. After Ctrl-C or a failure the finished parts are kept in ``<target>.resume``.

    Args:
        model: ``model.step(frame, state) -> (sharp, state)`` with frame and sharp [1, 3, H, W], RGB in 0..1,
            and ``state`` None at the start. If ``model.delay`` (default 0) is above 0, ``sharp`` is None for that
            many first frames and ``model.flush(state)`` returns the list of the frames still to come. It is
            moved to the device and number format in place and set to evaluation mode.
        source: a video file, a folder of images, "-" or a camera, see ``Reader``; never changed.
        target: a video file (.mp4, .m4v, .mov, .mkv; replaced if it exists), a folder of PNG images (empty
            if it exists), or "-" for y4m (raw RGB if the source is raw) on the standard output.
        options: how to work, see ``Options``.
        fields: fields of ``Options``, instead of an object.

    Returns:
        Summary: what was done.

    Raises:
        RirnError: an option is not possible, the input cannot be read, the output cannot be written, or the network
            does not fit in memory or returns non-finite values.
        BrokenStream: the input is cut short or damaged; the frames before that are in ``target``.
        KeyboardInterrupt: after closing ``target``.

    Example:
        >>> summary = deblur(model, "clip.mp4", "sharp.mp4", progress=False)
        >>> summary.frames, summary.width, summary.height
        (2, 64, 48)
    """
    options = replace(options or Options(), **fields)
    set_strength(model, options.strength)
    check_target(source, target)
    with _open(source, target, options) as reader:
        _check_hdr(source, reader.info, options.hdr)
        begin = time.perf_counter()
        joined = SideBySide(reader.info) if options.compare else None
        info = joined.info if joined else reader.info
        restorer = _restorer(model, reader.info, options)
        output, ahead, checkpoint = _open_output(model, reader, target, info, options)
        losses = _Losses(reader, output, target, options)
        for loss in losses.seen():
            log.warning("%s: %s.", source, loss)
        resumed, total = output.frames, options.cut.expected(reader.info.frames, reader.info.rate)
        progress = Progress(options.progress, total, resumed, name=os.path.basename(target))
        pipeline = Pipeline(reader, restorer, output, joined=joined, ahead=ahead, on_result=progress.update)
        with progress, _problems_said(source, target, output, losses):
            pipeline.run(checkpoint)
        seconds = time.perf_counter() - begin
    if options.keep_times and options.cut.is_all:
        keep_times(source, target)
    size, path = (info.width, info.height), Path(target)
    return Summary(output.frames, seconds, path, *size, resumed, pipeline.dropped, pipeline.busy)


def _restorer(model: torch.nn.Module, info: VideoInfo, options: Options) -> Restorer:
    """The network on its device, in tiles that fit into memory."""
    device = options.chosen_device
    dtype, precision = pick_dtype(options.dtype, device)
    tiled = Tiled(ready(model, device, dtype, precision), options.tile)
    tiled.prepare((info.height, info.width), device, dtype)
    return Restorer(tiled, device, dtype, CutDetector() if options.scene_reset else None)


def _open(source: str | os.PathLike, target: str | os.PathLike, options: Options) -> Reader:
    """Open the source; a pipe with sound is copied beside the target, so that it can be read again."""
    path = Path(os.path.realpath(target))
    to_video = os.fspath(target) != PIPE and path.suffix.lower() in FORMATS
    return Reader(
        source,
        rate=options.rate,
        raw_size=options.raw_size,
        cut=options.cut,
        spool=part_name(path) if to_video else None,
        deinterlace=options.deinterlace,
    )


def _open_output(
    model: torch.nn.Module, reader: Reader, target: str | os.PathLike, info: VideoInfo, options: Options
) -> tuple[Output, int, dict[str, Any] | None]:
    """Where the frames go, how many may wait for it, and what an earlier run left to continue from."""
    if os.fspath(target) == PIPE:
        # A frame leaves at once, and whoever waits for it wants it soon.
        return PipeOutput(info, raw=options.raw_size is not None), QUEUED, None
    path = Path(os.path.realpath(target))
    if is_photo(target) and not is_image_folder(target):
        if reader.path.is_dir() or not is_one_picture(reader.path):
            raise RirnError(f"{target} is one image, and the input has more; give a folder or a video")
        return PhotoOutput(path, None if options.compare else reader.path), QUEUED, None
    encoding = _encoding(target, info, options.encoding)
    settings = {"model": fingerprint(model), "encoding": encoding and vars(encoding), **options.settings()}
    if reader.can_rewind:
        settings |= source_settings(reader.path)
    parts = Parts(path, settings, resume=options.resume and reader.can_rewind)
    try:
        checkpoint = parts.checkpoint(options.chosen_device)
        companions = None
        if encoding is not None and reader.has_other_streams:
            part = None if options.cut.is_all else reader.begin
            companions = Companions(reader.companions_path, reader.stream_index, path, part)
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
    try:
        output.rehearse()
    except BaseException:
        output.fail()
        raise
    return output, frames_ahead(info), checkpoint


class _Losses:
    """What is not kept: of the pictures, reported before the first frame, and of the rest of the source."""

    def __init__(self, reader: Reader, output: Output, target: str | os.PathLike, options: Options):
        self._reader, self._output, self._compares = reader, output, options.compare
        self._target, self._suffix = target, Path(target).suffix.lower()

    def seen(self) -> list[Loss]:
        """What is left out of the pictures read so far."""
        seen = [*self._reader.not_kept, *([ALPHA] if self._reader.info.has_alpha else [])]
        keeps_alpha = getattr(self._output, "keeps_alpha", False) and not self._compares
        kept = {
            ALPHA: keeps_alpha,
            EXIF: isinstance(self._output, PhotoOutput) and not self._compares,
            CAPTIONS: getattr(self._output, "keeps_captions", False),
            # Matroska has it as a tag of the stream.
            STEREO: self._suffix == ".mkv" and "stereo_mode" in self._reader.info.stream_metadata,
        }
        return [loss for loss in seen if not kept.get(loss)]

    def say(self) -> None:
        """All of it on one line."""
        companions = getattr(self._output, "companions", None)
        beside = (
            self._reader.others
            if companions is None
            else [*companions.left_out.values(), *companions.languages]
        )
        beside = [*beside, *getattr(self._output, "left_out", [])]
        if tags := getattr(self._output, "lost_tags", []):
            beside = [*beside, f"tags {', '.join(tags)}"]
        words = dict.fromkeys([*(loss.what for loss in self.seen()), *beside])
        if words:
            log.warning("%s does not hold: %s.", self._target, "; ".join(words))


@contextmanager
def _problems_said(
    source: str | os.PathLike, target: str | os.PathLike, output: Output, losses: _Losses
) -> Iterator[None]:
    """Report what is missing, and raise if it should be there."""
    try:
        yield
    except BrokenStream as error:
        losses.say()
        if not getattr(output, "problems", []):
            raise
        raise BrokenStream(f"{error}; also, {'; '.join(output.problems)}", error.frames) from error
    losses.say()
    if getattr(output, "problems", []):
        raise BrokenStream(
            f"{source} is damaged: {target} is written, but {'; '.join(output.problems)}", output.frames
        )


def _encoding(target: str | os.PathLike, info: VideoInfo, encoding: Encoding) -> Encoding | None:
    """The encoding of a video named ``target``; None for a folder of images."""
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
    sdr = shlex.quote(f"{os.path.splitext(os.fspath(source))[0]}-sdr.mp4")
    raise RirnError(
        f"{source} is HDR ({transfer}), which the networks were not trained on; add --hdr pass to restore its code values as "
        f"they are and keep its tags, or make an SDR version first: ffmpeg -i {shlex.quote(os.fspath(source))} "
        f"-vf {_TONE_MAPPING} -crf 16 -fps_mode passthrough -c:a copy {sdr}"
    )
