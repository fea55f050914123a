"""Many videos: which there are, where each goes, who does which, and what went wrong."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rirn.data.images import list_images
from rirn.errors import RirnError
from rirn.video.files import FORMATS, PIPE
from rirn.video.live import camera_name

VIDEO_SUFFIXES = (*FORMATS, ".avi", ".webm", ".mts", ".m2ts", ".ts", ".mpg", ".mpeg", ".wmv", ".3gp", ".mxf")


@dataclass(frozen=True)
class Job:
    """One clip to restore."""

    source: str
    target: str


def plan(sources: Sequence[str], target: str) -> list[Job]:
    """One job for each clip that the sources name.

    A source is a video, a folder of images, a folder of videos, or a pattern such as "clips/*.mp4" that the
    shell left alone. A single clip goes to `target` itself. Several, or those of a folder of videos or a
    pattern, go into the folder `target` under their own names; a format that cannot be written becomes .mkv.

    Raises:
        RirnError: a pattern or folder holds no video, several clips go to one file, or two have one name.
    """
    clips, is_many = _clips(sources)
    if not is_many:
        return [Job(clips[0], target)]
    folder = Path(target)
    if folder.suffix.lower() in FORMATS or (folder.exists() and not folder.is_dir()):
        raise RirnError(f"{len(clips)} clips cannot all become {target}; give a folder as the target.")
    jobs: dict[Path, Job] = {}
    for clip in clips:
        if clip == PIPE or camera_name(clip) is not None:
            raise RirnError(f"{clip} cannot be one of several sources; restore it alone.")
        name = Path(clip).name if Path(clip).suffix.lower() in FORMATS else f"{Path(clip).stem}.mkv"
        job = Job(clip, str(folder / name))
        other = jobs.setdefault(folder / name, job)
        if other is not job:
            raise RirnError(
                f"{other.source} and {clip} would both become {job.target}; restore them separately."
            )
    return list(jobs.values())


def _clips(sources: Iterable[str]) -> tuple[list[str], bool]:
    """The clips, and whether they are several by the look of the command."""
    clips: list[str] = []
    is_many = False
    for source in sources:
        if not os.path.exists(source) and glob.has_magic(source):
            found = sorted(glob.glob(source))
            if not found:
                raise RirnError(f"No file matches {source}.")
            clips += found
            is_many = True
        elif os.path.isdir(source) and os.access(source, os.R_OK) and _holds_videos(source):
            clips += _videos(source)
            is_many = True
        else:
            clips.append(source)
    return clips, is_many or len(clips) > 1


def _holds_videos(folder: str) -> bool:
    return not list_images(folder) and bool(_videos(folder))


def _videos(folder: str) -> list[str]:
    return sorted(
        str(p)
        for p in Path(folder).iterdir()
        if p.suffix.lower() in VIDEO_SUFFIXES and not p.name.startswith(".")
    )


def run_all(jobs: Sequence[Job], restore: Callable[[Job], None], workers: int = 1) -> list[tuple[Job, str]]:
    """Call `restore` for every job, `workers` at a time; the jobs that failed, with the reason.

    One failure does not stop the others; Ctrl-C does.
    """

    def attempt(job: Job) -> tuple[Job, str] | None:
        try:
            restore(job)
        except Exception as error:  # whatever it was, the other clips are not to blame
            return job, str(error) if isinstance(error, RirnError) else f"{type(error).__name__}: {error}"
        return None

    if workers == 1:
        results = [attempt(job) for job in jobs]
    else:
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(attempt, jobs))
    return [result for result in results if result is not None]


def in_process(job: Job, options: Sequence[str], threads: int) -> None:
    """Run `rirn deblur` with `options` in a process of its own, which may crash without harm to others.

    What it said is passed on once it has succeeded: results to the standard output, warnings to the errors.

    Raises:
        RirnError: it failed; the message is the last line that it wrote.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    for name in ("RANK", "WORLD_SIZE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "rirn", "deblur", *options, job.source, job.target]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"the process ended with status {done.returncode}"]
        raise RirnError(lines[-1].removeprefix("rirn deblur: "))
    print(done.stderr, end="", file=sys.stderr, flush=True)
    print(done.stdout, end="", flush=True)
