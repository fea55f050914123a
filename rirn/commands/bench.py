"""``rirn bench``, which has its own parser, since it is also ``python -m rirn.bench``."""

from __future__ import annotations

from collections.abc import Sequence

from rirn.commands.parser import Parser

SUMMARY = "Time the fused ops against the eager and the compiled reference."


def make_parser() -> Parser:
    return Parser(description=SUMMARY)


def run(argv: Sequence[str]) -> int:
    from rirn.bench.options import check_files, parser

    check_files(parser().parse_args(argv))  # before torch is imported, which takes seconds
    from rirn.bench.__main__ import main

    return main(argv)
