"""``rirn demo``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, check_there
from rirn.weights.names import find_weights

SUMMARY = "Make a shaken clip with known truth, restore it, then restore a real video."


def make_parser() -> Parser:
    parser = Parser(description=SUMMARY)
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for videos and pictures")
    parser.add_argument(
        "--clip", type=Path, default=None, help="the real video; without it, only the first part runs"
    )
    parser.add_argument(
        "--model", default="rirn-small", help="weights: a name that comes with rirn, or a path"
    )
    return parser


def run(options: Namespace) -> None:
    find_weights(options.model)
    if options.clip is not None:
        check_there(options.clip)
    from rirn.demo import run

    run(options.out, options.clip, options.model)
