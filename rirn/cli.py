"""The command line. Every error a person can cause is one sentence and a non-zero exit, without a traceback."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

from rirn import __version__
from rirn.commands import (
    bench,
    compare,
    convert,
    data,
    deblur,
    demo,
    doctor,
    evaluate,
    export,
    figures,
    models,
    table,
    train,
)
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
            return bench.run(argv[1:])
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
        lambda: {
            name: train.SUMMARY if name == "train" else COMMANDS[name][0]().description for name in COMMANDS
        },
        "COMMAND",
        prog="rirn",
        usage="rirn [-h] [-V] [--plugin MODULE|FILE.py] COMMAND ...",
        description="Deblur video with recurrence-in-recurrence networks.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"rirn {__version__}")
    parser.add_argument(
        "--plugin",
        metavar="MODULE|FILE.py",
        help="load a module of networks and losses of one's own first, in any place on the line; repeatable",
    )
    return parser


COMMANDS: dict[str, tuple[Callable[[], OneLine], Callable[..., int | None]]] = {
    "deblur": (deblur.make_parser, deblur.run),
    "compare": (compare.make_parser, compare.run),
    "train": (train.make_parser, train.run),
    "table": (table.make_parser, table.run),
    "evaluate": (evaluate.make_parser, evaluate.run),
    "figures": (figures.make_parser, figures.run),
    "data": (data.make_parser, data.run),
    "models": (models.make_parser, models.run),
    "convert": (convert.make_parser, convert.run),
    "export": (export.make_parser, export.run),
    "bench": (bench.make_parser, bench.run),
    "demo": (demo.make_parser, demo.run),
    "doctor": (doctor.make_parser, doctor.run),
}

if __name__ == "__main__":
    sys.exit(main())
