"""What `rirn deblur` does with its options."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from fractions import Fraction
from functools import cache
from pathlib import Path

import torch

from rirn import ops
from rirn.errors import RirnError
from rirn.video.batch import Job, in_process, plan, run_all, share
from rirn.video.benchmark import benchmark
from rirn.video.deblur import deblur
from rirn.video.encoding import Encoding
from rirn.video.files import PIPE, check_target, parts_folder
from rirn.weights import load

# What each process of several is told by its arguments rather than by its options.
_NOT_PASSED_ON = ("paths", "jobs", "device")


def run(options: Namespace, device: str) -> int:
    """Restore what the options of the command line name on `device`; returns the exit status."""
    rate, raw_size = parse_rate(options.rate), _size(options.raw_size)
    tile, encoding = _tile(options.tile), _encoding(options)
    if options.jobs < 1:
        raise RirnError(f"--jobs must be at least 1, not {options.jobs}.")
    if options.benchmark:
        model = load(options.model)
        with ops.use_backend(options.backend):
            for source in options.paths:
                print(f"{source}: {benchmark(model, source, device=device, dtype=options.dtype, tile=tile)}")
        return 0
    *sources, target = options.paths
    jobs = plan(sources, target)
    is_many = len(jobs) > 1 or jobs[0].target != target
    if is_many:
        Path(target).mkdir(parents=True, exist_ok=True)
        device = _device_of_rank(device)
    else:
        # Loading weights takes longer than seeing that the paths are wrong.
        check_target(jobs[0].source, jobs[0].target)
    jobs = share(jobs)
    if options.resume:
        done = [job for job in jobs if _is_done(job)]
        jobs = [job for job in jobs if job not in done]
        for job in done:
            print(f"{job.target}: done before")

    @cache
    def model() -> torch.nn.Module:
        return load(options.model)

    def restore(job: Job) -> None:
        with ops.use_backend(options.backend):
            summary = deblur(
                model(),
                job.source,
                job.target,
                device=device,
                dtype=options.dtype,
                compare=options.compare,
                encoding=encoding,
                rate=rate,
                raw_size=raw_size,
                tile=tile,
                scene_reset=options.scene_reset == "auto",
                resume=options.resume,
                hdr=options.hdr,
            )
        # The standard output may be the video.
        print(
            f"{summary.target}: {summary.frames} frames in {summary.seconds:.1f} s, {summary.fps:.2f} frames/s"
            + (f", {summary.resumed} of them from before" if summary.resumed else "")
            + (f", {summary.dropped} dropped" if summary.dropped else ""),
            file=sys.stderr if job.target == PIPE else sys.stdout,
        )

    if not is_many:
        for job in jobs:
            restore(job)
        return 0
    if options.jobs == 1:
        failures = run_all(jobs, restore)
    else:
        flags = [*_flags(options), f"--device={device}"]
        threads = max(1, torch.get_num_threads() // options.jobs)
        failures = run_all(jobs, lambda job: in_process(job, flags, threads), options.jobs)
    if failures:
        for job, reason in failures:
            print(f"{job.source}: {reason}", file=sys.stderr)
        raise RirnError(f"{len(failures)} of {len(jobs)} videos failed, the others are done.")
    return 0


def _is_done(job: Job) -> bool:
    """Whether an earlier run finished this target; one that was interrupted left its parts."""
    target = Path(os.path.realpath(job.target))
    return (
        target.exists()
        and not parts_folder(target).exists()
        and not (target.is_dir() and not any(target.iterdir()))
    )


def _flags(options: Namespace) -> list[str]:
    """The options as they would be typed, for another process."""
    flags = []
    for name, value in vars(options).items():
        flag = f"--{name.replace('_', '-')}"
        if name in _NOT_PASSED_ON or value is None or value is False:
            continue
        if value is True:
            flags.append(flag)
        else:
            flags += [f"{flag}={v}" for v in (value if isinstance(value, list) else [value])]
    return flags


def _device_of_rank(device: str) -> str:
    """Under torchrun, the GPU of this process."""
    rank = os.environ.get("LOCAL_RANK")
    return (
        f"cuda:{int(rank) % torch.cuda.device_count()}" if device == "cuda" and rank is not None else device
    )


def parse_rate(text: str) -> Fraction:
    """Frames per second as typed: 25, 23.976 or 30000/1001."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise RirnError(
            f"'{text}' is no frame rate; use a number such as 25, 23.976 or 30000/1001."
        ) from error


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise RirnError(f"'{text}' is no frame size; use width and height such as 1280x720.")
    return int(width), int(height)


def _tile(text: str) -> int | str | None:
    if text == "off":
        return None
    if text != "auto" and not text.isdigit():
        raise RirnError(f"'{text}' is no tile; use auto, off or a number of pixels.")
    return text if text == "auto" else int(text)


def _encoding(options: Namespace) -> Encoding:
    further = {}
    for item in options.encoder_option or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise RirnError(f"'{item}' is no encoder option; use NAME=VALUE, such as tune=film.")
        further[name] = value
    return Encoding(options.codec, options.crf, options.preset, options.pix_fmt, further)
