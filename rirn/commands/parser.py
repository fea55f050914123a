"""What the parsers of all commands share."""

from __future__ import annotations

import difflib
import os
import re
from fractions import Fraction

from jsonargparse import ArgumentParser, DefaultHelpFormatter

from rirn import devices
from rirn.errors import RirnError

LONGEST_MESSAGE = 1000


class HelpFormatter(DefaultHelpFormatter):
    """Keeps the lines of the examples below the options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(ArgumentParser):
    """An argument parser that answers a mistake in one line, with the near match if an option or key is unknown."""

    config_file: str | None = None
    """The configuration file that was read last."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def _named(self, command: str) -> ArgumentParser:
        """The parser of a command of this one."""
        commands = (a for a in self._actions if isinstance(a.choices, dict))
        return next((a.choices[command] for a in commands if command in a.choices), self)

    def _required(self, names: list[str]) -> tuple[list[str], str]:
        """Arguments, given as ``command.name``, as they are typed, and the program with the commands."""
        typed, prog = [], self.prog
        for name in names:
            parser, rest = self, name
            while (inner := parser._named(rest.partition(".")[0])) is not parser:
                parser, rest = inner, rest.partition(".")[2]
            action = next((a for a in parser._actions if a.dest == rest), None)
            is_option = action is not None and action.option_strings
            typed.append(f"--{rest}" if is_option else getattr(action, "metavar", None) or rest)
            prog = parser.prog
        return typed, prog

    def error(self, message: str, ex: Exception | None = None) -> None:
        prog = self.prog
        required = re.fullmatch(r"(.*arguments are required: )([\w., -]+)", message)
        if required:
            typed, prog = self._required(required[2].split(", "))
            message = required[1] + ", ".join(typed)
        if self.config_file is not None and message.startswith("Unexpected config"):
            content = message.partition(":")[2].strip() or "it is empty"
            message = (
                f"the configuration file {self.config_file} holds no settings that can be read: {content}"
            )
        # On the command line, or in a configuration file, about which the parser of all commands complains.
        unknown = re.search(r"nrecognized arguments: --([\w.-]+)|not accept option '([\w.-]+)'", message)
        if unknown:
            command = re.match(r"Subcommand '(\w+)'", message)
            parser = self._named(command[1]) if command else self
            if unknown[2] and parser.config_file is not None:
                message += f" in {parser.config_file}"
            dashes, word = ("--", unknown[1]) if unknown[1] else ("", unknown[2])
            options = [o.lstrip("-") for a in parser._actions for o in a.option_strings if o.startswith("--")]
            close = difflib.get_close_matches(word, options, n=1)
            message += f"; did you mean {dashes}{close[0]}?" if close else ""
        message = " ".join(message.split())
        if len(message) > LONGEST_MESSAGE:  # it may quote a whole file
            message = f"{message[:LONGEST_MESSAGE]} ..."
        self.exit(2, f"{prog}: {message} (see {prog} --help)\n")


def pick_device(name: str) -> str:
    """The device that `--device` means, by a name that can be handed on to other processes."""
    return str(devices.pick_device(name))


def default_threads() -> int:
    """Processors for each process that a launcher started on this machine."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def parse_rate(text: str) -> Fraction:
    """Frames per second as typed: 25, 23.976 or 30000/1001."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise RirnError(
            f"'{text}' is no frame rate; use a number such as 25, 23.976 or 30000/1001."
        ) from error


def add_blur(parser: Parser) -> None:
    """Add `--blur`, which says where the blurry frames of a data set are."""
    parser.add_argument(
        "--blur",
        default=None,
        metavar="NAME",
        help="folder of blurry frames: blur_gamma, if there is one, or blur",
    )
