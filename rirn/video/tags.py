"""Tags of a video: which describe its content, and which of them a format takes."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping

from rirn.video import pyav as av

# Tags that describe the input's container or encoder; the output's own muxer writes them anew.
_TECHNICAL_TAGS = {
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "rotate",
    "vendor_id",
    "bps",
}


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that describe the content, not its coding (Matroska adds statistics)."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _TECHNICAL_TAGS
        and not key.upper().startswith(("_STATISTICS", "NUMBER_OF", "DURATION", "BPS"))
    }


def tag_flags(format: str, tags: Mapping[str, str]) -> tuple[str, list[str]]:
    """The flag with which a muxer of MP4 or MOV writes most of some tags, and the names of the others.

    Without it they are where most players look, but MP4 has no place for QuickTime's own keys nor for make and model.
    """
    wanted, tried = own_tags(tags), []
    if format not in ("mp4", "mov"):
        return "", []  # Matroska takes any
    for flag in ("", "+use_metadata_tags"):
        sink = io.BytesIO()
        with av.open(sink, "w", format=format, container_options={"movflags": flag} if flag else {}) as trial:
            trial.add_stream("mpeg4", rate=25)
            trial.metadata.update(wanted)
            trial.start_encoding()
        sink.seek(0)
        with av.open(sink, metadata_errors="replace") as written:
            there = {key.lower() for key in written.metadata}
        tried.append((flag, [name for name in wanted if name.lower() not in there]))
    return min(tried, key=lambda pair: len(pair[1]))


@functools.cache
def keeps_language(format: str, language: str) -> bool:
    """Whether a format has a code for the language of a stream: MP4 has three letters, MOV some of those."""
    if format not in ("mp4", "mov"):
        return True  # Matroska takes any
    sink = io.BytesIO()
    with av.open(sink, "w", format=format, container_options={"movflags": "empty_moov"}) as trial:
        trial.add_stream("mpeg4", rate=25).metadata["language"] = language
        trial.start_encoding()
    sink.seek(0)
    with av.open(sink) as written:
        return written.streams[0].metadata.get("language", "und") == language
