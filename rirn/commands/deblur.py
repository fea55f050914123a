"""``rirn deblur``."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rirn.commands.parser import Parser, parse_rate, parse_time
from rirn.errors import RirnError
from rirn.video.batch import Job, in_process, plan, run_all, unread
from rirn.video.cut import Cut
from rirn.video.encoding import Encoding
from rirn.video.files import PIPE, check_source, check_target, parts_folder, write_failures
from rirn.video.options import ALIGN, DTYPES, PROGRESS, SMALLEST, Options
from rirn.weights.names import find_weights

SUMMARY = "Restore motion-blurred videos."

# What each of several processes is told by its arguments rather than by its options.
_NOT_PASSED_ON = ("keep_times", "paths", "jobs", "device", "photos", "recursive")


def make_parser() -> Parser:
    parser = Parser(
        prog="rirn deblur",
        usage="rirn deblur [options] SOURCE [SOURCE ...] TARGET",
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn deblur ride.mp4 sharp.mp4\n"
        "  rirn deblur ride.mp4 frames/ --compare\n"
        "  rirn deblur photos/ sharp.mkv --rate 30 --model runs/mine/weights.safetensors\n"
        "  rirn deblur ride.mp4 try.mp4 --start 1:30 --duration 5\n"
        "  rirn deblur 'clips/*.mp4' sharp/ --jobs 2 --resume\n"
        "  ffmpeg -i ride.mp4 -f yuv4mpegpipe - | rirn deblur - - | ffplay -\n"
        "  rirn deblur ride.mp4 --benchmark",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="SOURCE ... TARGET",
        help="videos, folders of images or videos, glob patterns, camera:NAME, or - for stdin; then the target: a "
        "video file (.mp4, .mov, .mkv), a folder for PNG images, a folder for several videos, or - for stdout",
    )
    _add_network(parser)
    _add_source(parser)
    _add_run(parser)
    _add_encoder(parser)
    return parser


def _add_network(parser: Parser) -> None:
    add = parser.add_argument
    add("--model", default="rirn-small", help="weights: a name that comes with rirn, or a path")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto uses a GPU if there is one")
    add(
        "--dtype",
        default="auto",
        choices=list(DTYPES),
        help="precision of the network: fast multiplies in bfloat16 on CPUs that can, where it is auto's choice; "
        "bf16 and fp16 are for GPUs",
    )
    add(
        "--strength",
        type=float,
        default=1.0,
        help="factor on the correction to the input, 0 to 1.5: lower sharpens more gently (residual networks only)",
    )
    add("--backend", default="auto", help="implementation of the ops: auto, reference, cpu, cuda or triton")
    add(
        "--tile",
        default="auto",
        help=f"tile side in pixels, a multiple of {ALIGN}, at least {SMALLEST}; off; or auto to fit the free memory",
    )
    add("--scene-reset", default="auto", choices=["auto", "off"], help="reset the state at scene cuts")


def _add_source(parser: Parser) -> None:
    """What to read of a source, and how."""
    add = parser.add_argument
    add("--start", default="0", metavar="T", help="start time: seconds, or H:MM:SS")
    add("--duration", default=None, metavar="D", help="length of the part to restore: seconds, or H:MM:SS")
    add("--frames", type=int, default=None, metavar="N", help="restore at most N frames")
    add("--deinterlace", action="store_true", help="deinterlace the frames first (bwdif)")
    add(
        "--no-keep-times",
        dest="keep_times",
        action="store_false",
        help="do not give a restored file the modification time of its source",
    )
    add(
        "--hdr",
        default="refuse",
        choices=["refuse", "pass"],
        help="what to do with HDR video: pass restores the code values as they are",
    )
    add(
        "--rate",
        "--raw-fps",
        default="25",
        help="frame rate of images or raw frames, such as 25 or 30000/1001",
    )
    add("--raw-size", default=None, metavar="WxH", help="read - as headerless 8-bit RGB of this size")


def _add_run(parser: Parser) -> None:
    add = parser.add_argument
    add("--compare", action="store_true", help="write input and result side by side")
    add("--resume", action="store_true", help="continue where an interrupted run stopped; skip what is done")
    add("--photos", action="store_true", help="restore the images of a folder one by one, not as a clip")
    add("--recursive", action="store_true", help="descend into subfolders")
    add("--overwrite", action="store_true", help="replace existing videos without asking")
    add(
        "--progress",
        default="bar",
        choices=list(PROGRESS),
        help="bar on a terminal; json for one line per second: frame, of, fps, eta in seconds",
    )
    add("--jobs", type=int, default=1, help="videos to restore in parallel, each in its own process")
    add(
        "--benchmark",
        action="store_true",
        help="time decoding and the network, write nothing; takes no target",
    )


def _add_encoder(parser: Parser) -> None:
    add = parser.add_argument
    add("--codec", default=None, help="encoder: libx264, libx265 (default above 8 bits), prores_ks, ...")
    add(
        "--crf",
        type=int,
        default=None,
        help="quality, lower is better; by default 18 for libx264, 20 for libx265",
    )
    add("--preset", default=None, help="encoder preset: ultrafast to veryslow")
    add("--pix-fmt", default=None, help="sample format, such as yuv422p10le; by default 4:2:0")
    add(
        "--encoder-option",
        action="append",
        metavar="NAME=VALUE",
        help="additional encoder option; repeatable",
    )


def run(options: Namespace) -> int:
    """Restore what the command line names, or a share of it under torchrun; return the exit status."""
    if len(options.paths) < 2 and not options.benchmark:
        make_parser().error("the target is missing")
    how = _options(options)
    if options.jobs < 1:
        raise RirnError(f"--jobs must be at least 1, not {options.jobs}")
    find_weights(options.model)
    if options.benchmark:
        return _benchmark(options, how)
    *sources, target = options.paths
    jobs = plan(sources, target, photos=options.photos, recursive=options.recursive)
    is_many = len(jobs) > 1 or jobs[0].target != target
    if not is_many:
        # Importing torch and loading weights takes longer than seeing that the paths are wrong.
        check_target(jobs[0].source, jobs[0].target)
        check_source(jobs[0].source)
    _run_jobs(jobs, options, how, is_many)
    return 0


def _benchmark(options: Namespace, how: Options) -> int:
    for source in options.paths:
        check_source(source)
    from rirn import ops
    from rirn.video.benchmark import benchmark
    from rirn.weights.files import load

    with ops.use_backend(options.backend):
        for source in options.paths:
            print(f"{source}: {benchmark(load(options.model), source, how)}")
    return 0


def _restorer(options: Namespace, how: Options) -> Callable[[Job], None]:
    """Return a function that restores one video or photo and reports it."""
    from rirn import ops
    from rirn.video.run import deblur
    from rirn.weights.files import load

    @cache
    def model() -> Any:
        return load(options.model)

    def restore(job: Job) -> None:
        with ops.use_backend(options.backend):
            summary = deblur(model(), job.source, job.target, how)
        # The standard output may be the video.
        print(
            f"{summary.target}: {summary.frames} frames in {summary.seconds:.1f} s, {summary.fps:.2f} frames/s"
            + (f", {summary.resumed} of them from before" if summary.resumed else "")
            + (f", {summary.dropped} dropped" if summary.dropped else ""),
            file=sys.stderr if job.target == PIPE else sys.stdout,
        )

    return restore


def _run_jobs(jobs: Sequence[Job], options: Namespace, how: Options, is_many: bool) -> None:
    """Restore what is not done yet, in one or several processes, and raise if anything failed or was left out."""
    import torch

    from rirn.distributed import WORK_APART, join_world

    left_out = unread(options.paths[:-1], options.paths[-1], options.recursive)
    device = how.chosen_device
    with join_world("cpu", WORK_APART) as world:
        existing = [] if options.resume else [job.target for job in jobs if _is_finished_video(job)]
        world.gather(existing)  # all have looked before one of them writes
        if existing:
            may_ask = world.size == 1
            options.overwrite = _may_replace(existing, len(jobs), options.overwrite, may_ask)
        for folder in {os.path.dirname(job.target) for job in jobs} if is_many else ():
            with write_failures(options.paths[-1]):
                Path(folder).mkdir(parents=True, exist_ok=True)
        mine = jobs[world.rank :: world.size]
        if options.resume:
            for job in filter(_is_done, mine):
                print(f"{job.target}: done before")
            mine = [job for job in mine if not _is_done(job)]
        if not is_many:
            for job in mine:
                _restorer(options, how)(job)
            _raise_unread(left_out)
            return
        if options.jobs == 1:
            failures = run_all(mine, _restorer(options, how))
        else:
            flags = [*_flags(options), f"--device={device}"]
            threads = max(1, torch.get_num_threads() // options.jobs)
            failures = run_all(mine, lambda job: in_process(job, flags, threads), options.jobs)
        # The launcher ends all processes as soon as one fails; so none does before all are done.
        parts = world.gather((len(mine), failures))
    if world.main:
        _report(parts)
        _raise_unread(left_out)


def _raise_unread(files: Sequence[str]) -> None:
    if files:
        named = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        raise RirnError(f"Left out, since nothing here reads them: {named}; convert them first")


def _may_replace(existing: Sequence[str], count: int, overwrite: bool, may_ask: bool) -> bool:
    """Whether to replace existing targets, which is announced for several; raises if nobody wants it."""
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
        raise RirnError(f"{named} exists; add --overwrite to replace it, or give another name")
    raise RirnError(
        f"{len(existing)} of {count} targets exist ({named}); add --overwrite to replace them, --resume to leave "
        "them and do the rest, or give another folder"
    )


def _report(parts: Sequence[tuple[int, Sequence[tuple[Job, str]]]]) -> None:
    """Raise if anything failed in any process, each of which reports its number of videos and its failures."""
    failures = [failure for _, failed in parts for failure in failed]
    if not failures:
        return
    for job, reason in failures:
        print(f"{job.source}: {reason}", file=sys.stderr)
    count = sum(count for count, _ in parts)
    raise RirnError(f"{len(failures)} of {count} videos failed, the others are done")


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
        if name == "keep_times" and not value:
            flags.append("--no-keep-times")
        if name in _NOT_PASSED_ON or value is None or value is False:
            continue
        if value is True:
            flags.append(flag)
        else:
            flags += [f"{flag}={v}" for v in (value if isinstance(value, list) else [value])]
    return flags


def _options(options: Namespace) -> Options:
    """The options as typed values.

    Raises:
        RirnError: something is not possible.
    """
    return Options(
        device=options.device,
        dtype=options.dtype,
        strength=options.strength,
        compare=options.compare,
        progress=options.progress,
        encoding=_encoding(options),
        rate=parse_rate(options.rate),
        raw_size=_size(options.raw_size),
        tile=_tile(options.tile),
        scene_reset=options.scene_reset == "auto",
        resume=options.resume,
        hdr=options.hdr,
        deinterlace=options.deinterlace,
        keep_times=options.keep_times,
        cut=Cut(
            parse_time(options.start),
            None if options.duration is None else parse_time(options.duration),
            options.frames,
        ),
    )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise RirnError(f"'{text}' is no frame size; use width and height such as 1280x720")
    return int(width), int(height)


def _tile(text: str) -> int | str | None:
    """The tile as typed; what is no number is refused later with the rest."""
    return None if text == "off" else int(text) if text.isdecimal() else text


def _encoding(options: Namespace) -> Encoding:
    further = {}
    for item in options.encoder_option or []:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise RirnError(f"'{item}' is no encoder option; use NAME=VALUE, such as tune=film")
        further[name] = value
    return Encoding(options.codec, options.crf, options.preset, options.pix_fmt, further)
