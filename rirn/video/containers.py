"""Tell from the outermost structure of a file how many bytes are missing at its end.

FFmpeg treats the end of a truncated Matroska file like any other end, and durations in headers are too often
wrong to be evidence. The sizes of the outermost elements are not: they were written when the file was
complete.
"""

from __future__ import annotations

import os

_EBML = b"\x1a\x45\xdf\xa3"
_SEGMENT = b"\x18\x53\x80\x67"


def missing_bytes(path: str) -> int:
    """Bytes that the container at ``path`` declares beyond the end of the file; 0 if complete or not understood.

    Understands Matroska/WebM, MP4/MOV and AVI. A recording whose size was never filled in (live streams)
    counts as whole.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == _EBML:
            end = _matroska_end(file)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            end = _mp4_end(file, size)
        elif head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            end = 8 + int.from_bytes(head[4:8], "little")
        else:
            return 0
    return max(0, end - size)


def _matroska_end(file) -> int:
    """Where the segment ends, or 0 if it does not say."""
    file.seek(4)
    header = _ebml_size(file)
    if header is None:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    segment = _ebml_size(file)
    return 0 if segment is None else file.tell() + segment


def _ebml_size(file) -> int | None:
    """Read a variable-length integer; None at the end of the file or for the reserved value 'unknown'."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    rest = file.read(length - 1)
    if len(rest) < length - 1:
        return None
    value = int.from_bytes(bytes([first[0] & (0xFF >> length)]) + rest, "big")
    return None if value == (1 << 7 * length) - 1 else value


def _mp4_end(file, size: int) -> int:
    """Where the last top-level box ends."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:
            return size
        if length < 8:
            return at
        at += length
    return at
