"""Generated text between two marker lines of a page."""

from __future__ import annotations

import shutil
from pathlib import Path

from rirn.errors import RirnError
from rirn.files import replacing


def pair(name: str) -> tuple[str, str]:
    """The line above and the line below what is generated."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def check(path: Path, name: str) -> str | None:
    """Return the current content of a file to write into; None if there is no file.

    Raises:
        RirnError: it has no markers, or cannot be read; or there is no folder for it.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise RirnError(f"there is no folder {path.parent} to write {path.name} to; make it first")
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
    new = f"{old[: old.index(begin)]}{begin}\n{text}{old[old.index(end) :]}"
    page = path.resolve()  # a link stays one
    try:
        with replacing(page) as partial:
            partial.write_text(new, encoding="utf-8")
            if page.exists():
                shutil.copymode(page, partial)
    except OSError as error:
        raise RirnError(f"cannot write the tables to {path}: {error}") from error
