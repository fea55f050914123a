"""Errors meant for the person at the keyboard."""


class RirnError(Exception):
    """Something the user can put right.

    The message is one sentence that names what is wrong, the value seen and the cure. The command line prints it without a
    traceback and exits with a non-zero status; library users can catch it.
    """
