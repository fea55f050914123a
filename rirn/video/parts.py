"""The finished parts of a result while it grows, kept on disk so that a run can be continued."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rirn.data.images import list_images
from rirn.errors import RirnError
from rirn.models.state import State
from rirn.models.torch_files import read_torch_file
from rirn.video.companions import Companions
from rirn.video.encoding import Encoding
from rirn.video.files import FORMATS, parts_folder, write_failures
from rirn.video.frames import Frame, VideoInfo
from rirn.video.images import ImageFolderWriter, place_images
from rirn.video.mux import assemble, check_segment
from rirn.video.tags import tag_flags
from rirn.video.tiles import TileStates
from rirn.video.writer import VideoWriter

log = logging.getLogger("rirn.video")

try:
    import fcntl
except ModuleNotFoundError:  # Windows: two runs with the same target cannot be told apart
    fcntl = None

_DIGEST_SIZE = hashlib.sha256().digest_size


class Parts:
    """The folder ``<target>.resume`` with finished segments, and what is needed to continue after the last one.

    Segments are encoded one by one with the same settings, whether a run is interrupted or not; hence
    a resumed run gives the same file as an uninterrupted one.

    Args:
        target: the file or folder that the parts become.
        settings: everything that decides the result, as plain numbers and strings by name.
        resume: continue with the parts of an earlier run, if any.

    Raises:
        RirnError: parts exist but ``resume`` is not set, or they were made with other settings; another
            run is writing the same target; the folder cannot be written.
    """

    def __init__(self, target: Path, settings: Mapping[str, Any], *, resume: bool):
        self.path = parts_folder(target)
        self.target = target
        self._manifest = self.path / "settings.json"
        existed = self.path.exists()
        if existed and not self.path.is_dir():
            raise _in_the_way(self.path)
        with write_failures(self.path):
            self.path.mkdir(exist_ok=True)
            self._lock = (self.path / "lock").open("w")
        self._take_lock()
        try:
            if self._manifest.exists() and not resume:
                raise RirnError(
                    f"An interrupted run left its parts in {self.path}; continue with --resume, or delete that "
                    "folder to start again"
                )
            if self._manifest.exists():
                self._compare(dict(settings))
            elif existed and [p.name for p in self.path.iterdir()] != ["lock"]:
                raise _in_the_way(self.path)
            else:
                with write_failures(self.path):
                    self._manifest.write_text(json.dumps(dict(settings), indent=1) + "\n")
            self._clean()
            for segment in self.segments():
                if segment.is_file():
                    check_segment(segment)
        except BaseException:
            self._lock.close()
            raise

    def segments(self) -> list[Path]:
        """Finished segments in order."""
        return sorted(p for p in self.path.iterdir() if p.name.startswith("segment-"))

    def segment(self, number: int, suffix: str) -> Path:
        """Name for the segment of that number."""
        return self.path / f"segment-{number:06d}{suffix}"

    def checkpoint(self, device: torch.device) -> dict[str, Any] | None:
        """What ``save`` got after the last finished segment, None at the start."""
        count = len(self.segments())
        if not count:
            return None
        # Plain values and the states of our own models; a folder from elsewhere cannot run code.
        try:
            content = self._checkpoint_name(count).read_bytes()
            digest, content = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
            if hashlib.sha256(content).digest() != digest:
                raise ValueError("it is not what was written")
            return read_torch_file(io.BytesIO(content), location=device, classes=(State, TileStates))
        except (OSError, ValueError) as error:
            raise RirnError(
                f"The state in {self.path} cannot be read ({error}); delete the folder to start again"
            ) from error

    def save(self, checkpoint: Mapping[str, Any], count: int) -> None:
        """Save what is needed to continue after ``count`` segments; call before the last of them gets its name."""
        name = self._checkpoint_name(count)
        content = io.BytesIO()
        torch.save(dict(checkpoint), content)
        with write_failures(self.path):
            # A damaged state would give other frames, or fail somewhere in the network.
            digest = hashlib.sha256(content.getbuffer()).digest()
            with name.with_suffix(".part").open("wb") as file:
                file.write(digest)
                file.write(content.getbuffer())
            os.replace(name.with_suffix(".part"), name)

    def forget(self, count: int) -> None:
        """Delete a checkpoint that is no longer the last."""
        self._checkpoint_name(count).unlink(missing_ok=True)

    def close(self) -> None:
        """Release the folder and keep it."""
        self._lock.close()

    def abandon(self) -> None:
        """Release the folder, and delete it if there is nothing to continue from."""
        if self.segments():
            self.close()
        else:
            self.remove()

    def remove(self) -> None:
        """Delete the folder with everything in it."""
        # First what a run would continue from: if this is interrupted, nothing mistakes the rest for the whole.
        for state in self.path.glob("state-*"):
            state.unlink(missing_ok=True)
        self._lock.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _checkpoint_name(self, count: int) -> Path:
        return self.path / f"state-{count:06d}.pt"

    def _take_lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise RirnError(f"{self.target} is being written by another run; wait for it") from error

    def _compare(self, settings: dict[str, Any]) -> None:
        try:
            before = dict(json.loads(self._manifest.read_text()))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise RirnError(f"{self._manifest} cannot be read; delete {self.path} to start again") from error
        settings = json.loads(json.dumps(settings))
        for name in settings | before:
            if settings.get(name) != before.get(name):
                # Quoted, and not in full: the file may hold anything.
                was, now = (repr(values.get(name)) for values in (before, settings))
                raise RirnError(
                    f"Cannot continue {self.target}: {name!r:.100} was {was:.300} and is {now:.300} now; "
                    f"use the same again, or delete {self.path} to start afresh"
                )

    def _clean(self) -> None:
        """Remove what a killed run left unfinished: partial files, and segments without a state."""
        for path in self.path.iterdir():
            if path.name.startswith(".") or path.suffix == ".part":
                remove(path)
        numbered = self.segments()
        while numbered and not self._checkpoint_name(len(numbered)).exists():
            remove(numbered.pop())


def _in_the_way(path: Path) -> RirnError:
    return RirnError(f"{path} is in the way and was not made by rirn; move it")


class PartsOutput:
    """Writes frames segment by segment, and assembles them at the end.

    Args:
        parts: where the segments wait.
        info: the facts about the frames.
        encoding: the fully decided encoding of a video; None for a folder of images.
        companions: the other streams of the source to copy; None for none.
        frames: number of frames in the segments that ``parts`` already has.
        can_resume: whether the source can be read again; if not, no parts are kept for later.
    """

    def __init__(
        self,
        parts: Parts,
        info: VideoInfo,
        encoding: Encoding | None,
        *,
        companions: Companions | None = None,
        frames: int = 0,
        can_resume: bool = True,
    ):
        self.frames = frames
        self._parts, self._info, self._can_resume = parts, info, can_resume
        self._target = parts.target
        self._encoding = encoding
        self.companions = companions
        self.keeps_alpha = encoding is None or encoding.keeps_alpha
        self.lost_tags = (
            [] if encoding is None else tag_flags(FORMATS[parts.target.suffix.lower()], info.metadata)[1]
        )
        self.keeps_captions = encoding is not None and encoding.keeps_captions
        self.problems: list[str] = []  # what went wrong when the whole was put together
        self._writer: VideoWriter | ImageFolderWriter | None = None
        self._safe = frames  # those before the last border

    def rehearse(self) -> None:
        """Write and remove a file of one grey frame and the start of all else where the target will be.

        Raises:
            RirnError: an error that would otherwise come after the last frame.
        """
        if self._encoding is None:
            return
        info = self._info
        segment = self._parts.path / f".rehearsal{self._encoding.part_suffix}"
        writer = VideoWriter(segment, info, self._encoding)
        try:
            grey = np.full((info.height, info.width, 3), 128, np.uint8)
            writer.write(Frame(grey, 0, info.time_base))
            writer.finish()
        except BaseException:
            writer.abort()
            raise
        for problem in self._assemble([segment], whole=True, rehearsal=True):
            log.warning("%s: %s.", self._target.name, problem)
        segment.unlink()

    def write(self, frame: Frame) -> None:
        """Encode one frame."""
        if self._writer is None:
            self._writer = self._open(len(self._parts.segments()))
        if self._encoding is None and frame.name is None:
            frame.name = f"{self.frames:08d}"
        if self._encoding is None:  # PNG has no flag for it that viewers heed
            frame.rgb = np.ascontiguousarray(self._info.upright(frame.rgb))
            if frame.alpha is not None:
                frame.alpha = self._info.upright(frame.alpha)
        with self._explained():
            self._writer.write(frame)
        self.frames += 1

    def border(self, checkpoint: Mapping[str, Any]) -> None:
        """End a segment here; ``checkpoint`` is what is needed to continue after it."""
        count = len(self._parts.segments()) + 1
        with self._explained():
            self._parts.save({**checkpoint, "frames": self.frames}, count)
            self._finish_segment()
        self._parts.forget(count - 1)
        self._safe = self.frames

    def complete(self) -> None:
        """Assemble the target and remove the parts. Without a frame nothing appears."""
        with self._explained():
            self._finish_segment()
            self._place(whole=True)
        self._parts.remove()

    def stop(self) -> None:
        """Make a playable target of what there is, and keep the parts to continue from."""
        before = self._parts.segments()
        with self._explained():
            self._finish_segment()
            self._place(whole=False)
        if not self.frames or not self._can_resume:
            self._parts.remove()
            return
        log.warning("%s holds the first %d frames; --resume continues.", self._target, self.frames)
        # A resumed run ends its segments where any other does.
        for path in self._parts.segments()[len(before) :]:
            remove(path)
        self._parts.close()

    def fail(self) -> None:
        """Drop the unfinished segment, keep the finished ones."""
        if self._writer is not None:
            self._writer.abort()
            self._writer = None
        if self._safe and self._can_resume:
            self._parts.close()
            return
        try:
            if self._safe:
                self._place(whole=False)
        finally:
            self._parts.remove()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to an error what is kept."""
        try:
            yield
        except RirnError as error:
            if not self._safe or not self._can_resume:
                raise
            raise RirnError(
                f"{error}; the first {self._safe} frames wait in {self._parts.path}, continue with --resume"
            ) from error

    def _open(self, number: int) -> VideoWriter | ImageFolderWriter:
        if self._encoding is None:
            return ImageFolderWriter(self._parts.segment(number, ""))
        name = self._parts.segment(number, self._encoding.part_suffix)
        return VideoWriter(name, self._info, self._encoding)

    def _finish_segment(self) -> None:
        if self._writer is not None:
            self._writer.finish()
            self._writer = None

    def _place(self, *, whole: bool) -> None:
        segments = self._parts.segments()
        if not segments:
            return
        if self._encoding is None:
            place_images(segments, self._target)
            return
        self.problems = self._assemble(segments, whole=whole)

    def _assemble(self, segments: Sequence[Path], *, whole: bool, rehearsal: bool = False) -> list[str]:
        return assemble(
            self._target,
            segments,
            self._info,
            companions=self.companions,
            whole=whole,
            rehearsal=rehearsal,
        )


def remove(path: Path) -> None:
    """Delete a file, or a folder with everything in it."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def fingerprint(model: torch.nn.Module) -> str:
    """A digest of the weights and of how the model was built: two models with the same digest give the same
    frames."""
    digest = hashlib.sha256(type(model).__name__.encode())
    digest.update(json.dumps(getattr(model, "config", None), sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def source_settings(path: Path) -> dict[str, Any]:
    """What identifies a source: its size and modification time, or those of its images."""
    files: Sequence[Path] = list_images(path) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.is_file()]
    return {
        "source": os.path.realpath(path),
        "bytes": sum(s.st_size for s in stats),
        "changed": max((s.st_mtime_ns for s in stats), default=0),
    }
