"""`rirn deblur`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from jsonargparse import Namespace

from rirn import ops
from rirn.commands.parser import Parser, parse_rate, pick_device
from rirn.distributed import WORK_APART, join_world
from rirn.errors import RirnError
from rirn.video.batch import Job, in_process, plan, run_all, unread
from rirn.video.benchmark import benchmark
from rirn.video.deblur import deblur
from rirn.video.encoding import Encoding
from rirn.video.files import PIPE, check_target, parts_folder, write_failures
from rirn.video.tiles import ALIGN, SMALLEST
from rirn.weights import load

# What each process of several is told by its arguments rather than by its options.
_NOT_PASSED_ON = ("paths", "jobs", "device", "photos", "recursive")


def make_parser() -> Parser:
    parser = Parser(
        prog="rirn deblur",
        usage="rirn deblur [options] SOURCE [SOURCE ...] TARGET",
        description="Restore motion-blurred videos.",
        epilog="examples:\n"
        "  rirn deblur ride.mp4 sharp.mp4\n"
        "  rirn deblur ride.mp4 frames/ --compare\n"
        "  rirn deblur photos/ sharp.mkv --rate 30 --model runs/mine/weights.safetensors\n"
        "  rirn deblur 'clips/*.mp4' sharp/ --jobs 2 --resume\n"
        "  ffmpeg -i ride.mp4 -f yuv4mpegpipe - | rirn deblur - - | ffplay -\n"
        "  rirn deblur ride.mp4 --benchmark",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="SOURCE ... TARGET",
        help="videos, folders of images or of videos, patterns, camera:NAME, or - for a pipe; then the target: a "
        "video file (.mp4, .mov, .mkv), a folder for PNG images, a folder for many videos, or -",
    )
    add("--model", default="rirn-small", help="weights: a name that comes with rirn, or a path")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one")
    add("--dtype", default="fp32", choices=["fp32", "bf16", "fp16"], help="precision of the network")
    add(
        "--strength",
        type=float,
        default=1.0,
        help="factor on the difference to the input, 0 to 1.5: less sharpens more gently (residual networks only)",
    )
    add("--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton")
    add(
        "--tile",
        default="auto",
        help=f"side of tiles in pixels, a multiple of {ALIGN} of at least {SMALLEST}; off; or auto for what the "
        "free memory holds",
    )
    add("--scene-reset", default="auto", choices=["auto", "off"], help="forget the past at a cut")
    add("--compare", action="store_true", help="write input and result side by side")
    add("--resume", action="store_true", help="continue where an interrupted run stopped; skip what is done")
    add("--photos", action="store_true", help="restore the images of a folder one by one, not as a clip")
    add("--recursive", action="store_true", help="also what folders in folders hold")
    add("--overwrite", action="store_true", help="replace videos that exist without asking")
    add("--jobs", type=int, default=1, help="videos at the same time, each in a process of its own")
    add(
        "--benchmark",
        action="store_true",
        help="measure decoding and network, write nothing; takes no target",
    )
    add("--codec", default=None, help="encoder: libx264, libx265 (default above 8 bits), prores_ks, ...")
    add("--crf", type=int, default=None, help="quality, smaller is better: 18 for libx264, 20 for libx265")
    add("--preset", default=None, help="speed of the encoder: ultrafast to veryslow")
    add("--pix-fmt", default=None, help="sample format, such as yuv422p10le; by default 4:2:0")
    add(
        "--encoder-option",
        action="append",
        metavar="NAME=VALUE",
        help="further option of the encoder; repeatable",
    )
    add(
        "--hdr",
        default="refuse",
        choices=["refuse", "pass"],
        help="HDR: pass restores the code values as they are",
    )
    add(
        "--rate",
        "--raw-fps",
        default="25",
        help="frames per second of images or raw frames: 25 or 30000/1001",
    )
    add("--raw-size", default=None, metavar="WxH", help="- is RGB of 8 bits without a header, of this size")
    return parser


def run(options: Namespace) -> int:
    """Restore what the options of the command line name, under torchrun a share of it; returns the exit status."""
    if len(options.paths) < 2 and not options.benchmark:
        make_parser().error("the target is missing")
    device = pick_device(options.device)
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
    jobs = plan(sources, target, photos=options.photos, recursive=options.recursive)
    left_out = unread(sources, options.recursive)
    is_many = len(jobs) > 1 or jobs[0].target != target
    if is_many:
        for folder in {os.path.dirname(job.target) for job in jobs}:
            with write_failures(target):
                Path(folder).mkdir(parents=True, exist_ok=True)
    else:
        # Loading weights takes longer than seeing that the paths are wrong.
        check_target(jobs[0].source, jobs[0].target)

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
                strength=options.strength,
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

    with join_world("cpu", WORK_APART) as world:
        existing = [] if options.resume else [job.target for job in jobs if _is_finished_video(job)]
        world.gather(existing)  # all have looked before one of them writes
        if existing:
            may_ask = world.size == 1
            options.overwrite = _may_replace(existing, len(jobs), options.overwrite, may_ask)
        mine = jobs[world.rank :: world.size]
        if options.resume:
            for job in filter(_is_done, mine):
                print(f"{job.target}: done before")
            mine = [job for job in mine if not _is_done(job)]
        if not is_many:
            for job in mine:
                restore(job)
            _raise_unread(left_out)
            return 0
        if options.jobs == 1:
            failures = run_all(mine, restore)
        else:
            flags = [*_flags(options), f"--device={device}"]
            threads = max(1, torch.get_num_threads() // options.jobs)
            failures = run_all(mine, lambda job: in_process(job, flags, threads), options.jobs)
        # The launcher ends all processes as soon as one fails; so none does before all are done.
        parts = world.gather((len(mine), failures))
    if world.main:
        _report(parts)
        _raise_unread(left_out)
    return 0


def _raise_unread(files: Sequence[str]) -> None:
    if files:
        named = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        raise RirnError(f"Left out, since nothing here reads them: {named}; convert them first.")


def _may_replace(existing: Sequence[str], count: int, overwrite: bool, may_ask: bool) -> bool:
    """Whether targets that exist are replaced, which is said for several; raises if nobody wants it."""
    named = ", ".join(existing[:3]) + (", ..." if len(existing) > 3 else "")
    if overwrite:
        if count > 1:
            print(f"{len(existing)} of {count} targets exist and are replaced: {named}", file=sys.stderr)
        return True
    is_one = len(existing) == 1
    if may_ask and sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty():
        print(
            f"{named} exist{'s' * is_one}; replace {'it' if is_one else 'them'}? [y/N] ",
            end="",
            file=sys.stderr,
        )
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in ("y", "yes"):
            return True
    if count == 1:
        raise RirnError(f"{named} exists; add --overwrite to replace it, or give another name.")
    raise RirnError(
        f"{len(existing)} of {count} targets exist ({named}); add --overwrite to replace them, --resume to leave "
        "them and do the rest, or give another folder."
    )


def _report(parts: Sequence[tuple[int, Sequence[tuple[Job, str]]]]) -> None:
    """Raise if anything failed in any of the processes, each of which gives its number of videos and its failures."""
    failures = [failure for _, failed in parts for failure in failed]
    if not failures:
        return
    for job, reason in failures:
        print(f"{job.source}: {reason}", file=sys.stderr)
    count = sum(count for count, _ in parts)
    raise RirnError(f"{len(failures)} of {count} videos failed, the others are done.")


def _is_finished_video(job: Job) -> bool:
    return job.target != PIPE and os.path.isfile(job.target) and _is_done(job)


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


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RirnError(f"'{text}' is no frame size; use width and height such as 1280x720.")
    return int(width), int(height)


def _tile(text: str) -> int | str | None:
    if text == "off":
        return None
    if text != "auto" and not text.isdecimal():
        raise RirnError(
            f"'{text}' is no tile; use auto, off, or a multiple of {ALIGN} of at least {SMALLEST} pixels."
        )
    return text if text == "auto" else int(text)


def _encoding(options: Namespace) -> Encoding:
    further = {}
    for item in options.encoder_option or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise RirnError(f"'{item}' is no encoder option; use NAME=VALUE, such as tune=film.")
        further[name] = value
    return Encoding(options.codec, options.crf, options.preset, options.pix_fmt, further)
