"""Generated text between two marker lines of a page."""

from __future__ import annotations

from pathlib import Path

from rirn.errors import RirnError


def pair(name: str) -> tuple[str, str]:
    """The line above and the line below what is generated."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def check(path: Path, name: str) -> str | None:
    """Return what a file to write into holds already; None if there is none.

    Raises:
        RirnError: it has no markers, or cannot be read.
    """
    if not path.exists():
        return None
    try:
        old = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RirnError(f"cannot read {path} to write tables into it: {error}") from error
    begin, end = pair(name)
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise RirnError(f"{path} must have one line {begin} and below it one line {end} to write between")
    return old


def write(path: Path, name: str, text: str) -> None:
    """Put text that ends in a newline between the markers of a file, or make a file of it.

    Raises:
        RirnError: the file has no markers, or cannot be read or written.
    """
    begin, end = pair(name)
    old = check(path, name) or f"{begin}\n{end}\n"
    try:
        path.write_text(f"{old[: old.index(begin)]}{begin}\n{text}{old[old.index(end) :]}", encoding="utf-8")
    except OSError as error:
        raise RirnError(f"cannot write the tables to {path}: {error}") from error
