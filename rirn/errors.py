"""Errors meant for the person at the keyboard."""

import difflib
import os
from collections.abc import Iterable


class RirnError(Exception):
    """An error that the user can fix.

    The message is one sentence that names the problem, the value seen and the cure. The command line prints it without a
    traceback and exits with a non-zero status; library users can catch it.
    """


def describe(error: OSError) -> str:
    """Describe an error with a path that no check has covered: a full disk, a read-only folder."""
    what = "" if error.filename is None else f" {os.fsdecode(error.filename)}"
    return f"cannot read or write{what} ({error.strerror or error})"


def near_match(word: str, known: Iterable[str]) -> str:
    """Return 'did you mean x?' if a known word is close, else all known words."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"
