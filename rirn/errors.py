"""Errors meant for the person at the keyboard."""

import difflib
import os
from collections.abc import Iterable


class RirnError(Exception):
    """Something the user can put right.

    The message is one sentence that names what is wrong, the value seen and the cure. The command line prints it without a
    traceback and exits with a non-zero status; library users can catch it.
    """


def describe(error: OSError) -> str:
    """What went wrong with a path that no check has looked at: a full disk, a folder that is read-only."""
    what = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
    return f"cannot read or write{what} ({error.strerror or error})"


def near_match(word: str, known: Iterable[str]) -> str:
    """'did you mean x?' where a known word is near, else all of them."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
