"""What the parsers of all commands share."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn

from rirn.errors import RirnError

LONGEST_MESSAGE = 1000

EVERYWHERE = "\nEvery command also takes --plugin FILE.py; see rirn --help.\n"
"""The options of ``rirn`` itself."""


def nearest(word: str | None, known: Iterable[str], dashes: str = "") -> str:
    """Return '; did you mean x?' if an option or setting is close, else nothing."""
    close = difflib.get_close_matches(word or "", list(known), n=1)
    return f"; did you mean {dashes}{close[0]}?" if close else ""


class HelpFormatter(argparse.HelpFormatter):
    """Keeps the line breaks of the examples below the options, and states the defaults."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_flag = isinstance(action.default, bool)
        tells = action.option_strings and not is_flag and action.default not in (None, [], argparse.SUPPRESS)
        return f"{action.help or ''} (default: %(default)s)" if tells else action.help


class OneLine(argparse.ArgumentParser):
    """Answers a mistake in one line, with the closest match if an option or key is unknown."""

    def error(self, message: str) -> NoReturn:
        unknown = re.search(r"nrecognized arguments: --([\w.-]+)", message)
        if unknown:
            options = [o[2:] for a in self._actions for o in a.option_strings if o.startswith("--")]
            message += nearest(unknown[1], options, dashes="--")
        message = " ".join(message.split())
        if len(message) > LONGEST_MESSAGE:  # it may quote a whole file
            message = f"{message[:LONGEST_MESSAGE]} ..."
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


class Parser(OneLine):
    """The options of a command."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def format_help(self) -> str:
        """The help, and where to find the help common to all commands."""
        return super().format_help() + EVERYWHERE


class CommandParser(Parser):
    """A command followed by a subcommand; only the parser of that subcommand is made.

    Args:
        commands: makes the parser of each subcommand, by name.
        summaries: what each does, for the help; made only on request.
        kwargs: as for any parser.
    """

    def __init__(
        self,
        commands: Mapping[str, Callable[[], OneLine]],
        summaries: Callable[[], Mapping[str, str]],
        metavar: str,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self._commands, self._summaries, self._metavar = commands, summaries, metavar
        self.add_argument("command", metavar=metavar, help=f"one of: {', '.join(commands)}")

    def format_help(self) -> str:
        """The help, with a line for each command."""
        wide = max(map(len, self._commands)) + 2
        lines = [f"  {name:{wide}s}{summary}" for name, summary in self._summaries().items()]
        return f"{super(Parser, self).format_help()}\ncommands:\n" + "\n".join(lines) + "\n"

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:
        """``command``, and its ``options``."""
        if not words:
            self.error(f"the following arguments are required: {self._metavar}: {', '.join(self._commands)}")
        if words[0].startswith("-"):
            return super().parse_args(words)
        name = words[0]
        if name not in self._commands:
            close = difflib.get_close_matches(name, self._commands, n=1)
            near = f"did you mean {close[0]}" if close else f"there are {', '.join(self._commands)}"
            self.error(f"there is no command {name!r}; {near}")
        parser = self._commands[name]()
        parser.prog = f"{self.prog} {name}"
        return argparse.Namespace(command=name, options=parser.parse_args(words[1:]))


def positive_int(text: str) -> int:
    """A whole number above 0, as typed."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def pick_device(name: str) -> str:
    """The device that ``--device`` means, by a name that can be passed to other processes."""
    from rirn import devices  # torch takes seconds to import

    return str(devices.pick_device(name))


def check_there(*paths: str | Path) -> None:
    """Raise RirnError for the first path that does not exist, before torch is imported, which takes seconds."""
    for path in paths:
        if not Path(path).exists():
            kind = "file" if Path(path).suffix else "folder"
            raise RirnError(f"there is no {kind} {path}")


def default_threads() -> int:
    """Processors per process that a launcher started on this machine."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def parse_rate(text: str) -> Fraction:
    """Frames per second as typed: 25, 23.976 or 30000/1001."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise RirnError(
            f"'{text}' is no frame rate; use a number such as 25, 23.976 or 30000/1001"
        ) from error


def parse_time(text: str) -> Fraction:
    """Seconds as typed: 90, 90.5, 1:30 or 0:01:30.5."""
    parts = text.split(":")
    valid = len(parts) <= 3 and re.fullmatch(r"\d+(\.\d*)?|\.\d+", parts[-1], re.ASCII)
    if not valid or not all(re.fullmatch(r"\d+", part, re.ASCII) for part in parts[:-1]):
        raise RirnError(f"'{text}' is no time; use seconds such as 90.5, or H:MM:SS such as 0:01:30.5")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + Fraction(part)
    return seconds


def add_blur(parser: Parser) -> None:
    """Add ``--blur``, which says where the blurry frames of a data set are."""
    parser.add_argument(
        "--blur",
        default=None,
        metavar="NAME",
        help="name of the folders of blurry frames; by default blur_gamma if present, else blur",
    )
