"""``rirn doctor``."""

from __future__ import annotations

import json
from argparse import Namespace

from rirn.commands.parser import Parser

SUMMARY = "Report what is installed, what can run here, and why something cannot."


def make_parser() -> Parser:
    parser = Parser(description=SUMMARY)
    parser.add_argument("--json", action="store_true", help="print the same facts, and more, as JSON")
    return parser


def run(options: Namespace) -> None:
    from rirn import doctor

    facts = doctor.report()
    print(json.dumps(facts, indent=1) if options.json else doctor.format_report(facts))
