"""The command line. Every error a person can cause is one sentence and a non-zero exit, without a traceback."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from rirn.commands.parser import CommandParser, OneLine
from rirn.errors import RirnError, describe
from rirn.plugins import take_plugins


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 after an error, 2 for a wrong command line, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names need not be UTF-8; they leave as they came
        sys.stdout.reconfigure(errors="surrogateescape")
    try:
        argv = take_plugins(argv)
        if argv[:1] == ["bench"]:
            return COMMANDS["bench"][1](argv[1:])
        parser = _parser()
        if not argv:
            parser.print_help()
            return 0
        typed = parser.parse_args(argv)
        return COMMANDS[typed.command][1](typed.options) or 0
    except RirnError as error:
        print(f"rirn {argv[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"rirn {argv[0]}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # somebody reads the output through `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"rirn {argv[0]}: {describe(error)}", file=sys.stderr)
        return 1


def _parser() -> CommandParser:
    parser = CommandParser(
        {name: make for name, (make, _) in COMMANDS.items()},
        lambda: {name: _module(name).SUMMARY for name in COMMANDS},
        "COMMAND",
        prog="rirn",
        usage="rirn [-h] [-V] [--plugin MODULE|FILE.py] COMMAND ...",
        description="Deblur video with recurrence-in-recurrence networks.",
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version and exit")
    parser.add_argument(
        "--plugin",
        metavar="MODULE|FILE.py",
        help="first load your own module of networks and losses; allowed anywhere on the line; repeatable",
    )
    return parser


class _Version(argparse.Action):
    """Looks the version up only when asked: searching the installed packages takes as long as everything else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from rirn.version import __version__

        print(f"rirn {__version__}")
        parser.exit()


def _module(name: str) -> Any:
    return import_module(f"rirn.commands.{name}")


def _command(name: str) -> tuple[Callable[[], OneLine], Callable[..., int | None]]:
    """What makes the parser of a command, and what runs it; either imports its module."""
    return lambda: _module(name).make_parser(), lambda options: _module(name).run(options)


COMMANDS: dict[str, tuple[Callable[[], OneLine], Callable[..., int | None]]] = {
    name: _command(name)
    for name in (
        *("deblur", "compare", "train", "table", "claims", "evaluate", "figures", "data"),
        *("models", "convert", "export", "bench", "demo", "doctor"),
    )
}

if __name__ == "__main__":
    sys.exit(main())
