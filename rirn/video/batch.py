"""Many videos: which there are, where each goes, which process restores it, and what went wrong."""

from __future__ import annotations

import glob
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rirn.errors import RirnError
from rirn.video.files import FORMATS, PARTS, PIPE, camera_name, is_image_folder, is_photo

log = logging.getLogger("rirn.video")

VIDEO_SUFFIXES = {
    *FORMATS,
    *(".avi", ".webm", ".mts", ".m2ts", ".m2t", ".ts", ".mpg", ".mpeg", ".mpe", ".m1v"),
    *(".m2v", ".mpv", ".wmv", ".3gp", ".3g2", ".mxf", ".vob", ".flv", ".f4v", ".ogv", ".ogm"),
    *(".dv", ".mod", ".tod", ".asf", ".insv", ".lrv", ".360", ".qt", ".rm", ".rmvb", ".divx"),
    *(".wtv", ".amv", ".y4m", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".ivf"),
    *(".obu", ".nut", ".gif", ".apng", ".mjpg", ".mjpeg", ".gxf", ".nsv", ".trp", ".evo"),
}
# Pictures and videos that rirn cannot read, or only in part.
_UNREAD = {
    *(".heic", ".heif", ".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf"),
    *(".rw2", ".pef", ".srw", ".psd", ".xcf", ".hdr", ".dpx", ".cin", ".braw", ".r3d"),
    *(".ari", ".jxl", ".jxr", ".crm", ".raw"),
}


@dataclass(frozen=True)
class Job:
    """One clip to restore."""

    source: str
    target: str


def plan(sources: Sequence[str], target: str, *, photos: bool = False, recursive: bool = False) -> list[Job]:
    """Plan one job for each clip or photo that the sources name.

    A source is a video, a photo, a folder of images, a folder of videos and photos, or a pattern such as
    "clips/*.mp4" that the shell left alone. A single clip goes to ``target`` itself. Several, or those of a folder
    of videos or a pattern, go into the folder ``target`` under their own names; a format that cannot be written
    becomes .mkv. Images of one size in a folder are one clip; those of several sizes, or beside videos, are separate
    photos, and so are image files given by name.

    Args:
        sources: what to restore.
        target: where to write it.
        photos: treat the images of folders as photos even if they have one size.
        recursive: include subfolders, under their names.

    Raises:
        RirnError: a pattern or folder holds no video, several clips go to one file, or two have one name.
    """
    clips, is_many = _clips(sources, target, photos, recursive)
    if not is_many and not (is_photo(clips[0][0]) and is_image_folder(target)):
        return [Job(clips[0][0], target)]
    folder = Path(target)
    is_file = folder.suffix.lower() in FORMATS or is_photo(folder)
    if (is_file and not is_image_folder(target)) or (folder.exists() and not folder.is_dir()):
        raise RirnError(f"{len(clips)} clips cannot all become {target}; give a folder as the target")
    jobs: dict[str, Job] = {}
    for clip, inside in clips:
        if clip == PIPE or camera_name(clip) is not None:
            raise RirnError(f"{clip} cannot be one of several sources; restore it alone")
        path = Path(clip)
        if os.path.isdir(clip):
            name = path.resolve().name if recursive or photos else f"{path.stem}.mkv"
        else:
            keeps = path.suffix.lower() in FORMATS or is_photo(clip)
            name = path.name if keeps else f"{path.stem}.mkv"
        job = Job(clip, str(folder / inside / name))
        # On file systems that ignore case, these are one.
        other = jobs.setdefault(os.path.normcase(job.target).casefold(), job)
        if other is not job:
            raise RirnError(
                f"{other.source} and {clip} would both become {job.target}; restore them separately"
            )
    return list(jobs.values())


def unread(sources: Iterable[str], target: str, recursive: bool = False) -> list[str]:
    """Pictures and videos in the folders among ``sources`` that get no job, since their kind cannot be read."""
    found = []
    for source in sources:
        if os.path.isdir(source):
            found += [str(p) for p in _files(Path(source), target, recursive) if p.suffix.lower() in _UNREAD]
    return found


def _clips(
    sources: Iterable[str], target: str, photos: bool, recursive: bool
) -> tuple[list[tuple[str, str]], bool]:
    """The clips, each with its folder within the target, and whether the command looks like one for several."""
    clips: list[tuple[str, str]] = []
    is_many = False
    for source in sources:
        if not os.path.exists(source) and glob.has_magic(source):
            found = sorted(glob.glob(source))
            if not found:
                raise RirnError(f"No file matches {source}")
            clips += [(clip, "") for clip in found]
            is_many = True
        elif os.path.isdir(source) and os.access(source, os.R_OK):
            inside = _of_folder(Path(source), target, photos, recursive)
            clips += inside or [(source, "")]
            is_many |= bool(inside)
        else:
            clips.append((source, ""))
    return clips, is_many or len(clips) > 1


def _files(folder: Path, target: str, recursive: bool) -> list[Path]:
    """Files that exist, are not hidden, and were not left by runs with this target or another."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.resolve() == Path(target).resolve():
            continue
        if path.is_file():
            found.append(path)
        elif recursive and _is_source(path):
            found += _files(path, target, recursive)
    return found


def _is_source(path: Path) -> bool:
    """Whether to look into a subfolder."""
    if not path.is_dir() or path.is_symlink() or path.suffix == PARTS:
        return False
    return os.access(path, os.R_OK | os.X_OK)


def _of_folder(folder: Path, target: str, photos: bool, recursive: bool) -> list[tuple[str, str]]:
    """The contents of a folder, each with its place in it; nothing if the folder is one clip of images."""
    files = _files(folder, target, recursive)
    videos = [p for p in files if p.suffix.lower() in VIDEO_SUFFIXES]
    images = [p for p in files if is_photo(p) and p not in videos]
    if not videos and not (images and recursive) and not photos and not _differ_in_size(images):
        return []
    if images and videos:
        log.warning("%s holds videos: its %d images are restored one by one, as photos.", folder, len(images))
    elif images and not photos and not recursive:
        log.warning("The images in %s differ in size: each is restored on its own, as a photo.", folder)
    return [(str(p), str(p.parent.relative_to(folder))) for p in (*videos, *images)]


def _differ_in_size(images: Sequence[Path]) -> bool:
    from rirn.data.images import image_size

    sizes = set()
    for image in images:
        try:
            sizes.add(image_size(image))
        except RirnError:
            return False  # which one it is, is said when it is read
        if len(sizes) > 1:
            return True
    return False


def run_all(jobs: Sequence[Job], restore: Callable[[Job], None], workers: int = 1) -> list[tuple[Job, str]]:
    """Call ``restore`` for every job, ``workers`` at a time; return the jobs that failed, with the reason.

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
    """Run ``rirn deblur`` with ``options`` in its own process, which may crash without harm to others.

    Its output is passed on once it has succeeded: results to standard output, warnings to standard error.

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
