"""``rirn data``: check data sets, or make one."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from rirn.commands.parser import CommandParser, OneLine, Parser, add_blur, check_there, default_threads
from rirn.errors import RirnError

SUMMARY = "Check data sets of blurry and sharp frames, or make one."

_SYNTH = "Make blurry and sharp pairs from high-speed or ordinary footage, or from photos."


def make_parser() -> Parser:
    return CommandParser(
        {name: make for name, (make, _) in ACTIONS.items()},
        lambda: {"check": _check_parser().description, "synth": _SYNTH},
        "ACTION",
        prog="rirn data",
        usage="rirn data [-h] ACTION ...",
        description=SUMMARY,
    )


def run(options: Namespace) -> None:
    ACTIONS[options.command][1](options.options)


def _check_parser() -> Parser:
    parser = Parser(
        description="Report what a data set contains, what is missing and what is broken.",
        epilog="examples:\n  rirn data check GOPRO_Large\n  rirn data check GOPRO_Large/test --blur blur --headers-only",
    )
    parser.add_argument("root", type=Path, metavar="DIR", help="a data set, a part of it, or one sequence")
    add_blur(parser)
    parser.add_argument(
        "--headers-only",
        action="store_true",
        help="read only the headers: quicker, but misses truncated files",
    )
    parser.add_argument("--workers", type=int, default=default_threads(), help="threads that decode images")
    return parser


def _check(options: Namespace) -> None:
    check_there(options.root)
    from rirn.data.check import check, format_report

    report = check(
        options.root, blur=options.blur, headers_only=options.headers_only, workers=options.workers
    )
    print(format_report(report))
    if report.problems:
        raise RirnError(
            f"{len(report.problems)} frames of {options.root} are broken; get them again or remove both halves"
        )
    if not any(sequence.pairs for sequence in report.sequences):
        blurry = options.blur or "blur_gamma/ or blur"
        raise RirnError(f"{options.root} has no pair of frames: no sequence has {blurry}/ beside sharp/")


def _synth_parser() -> OneLine:
    from rirn.commands.settings import SettingsParser
    from rirn.synth import SynthConfig

    parser = SettingsParser(
        SynthConfig,
        usage="%(prog)s [-h] --out DIR [--workers N] [--NAME VALUE ...] SOURCE ...",
        description=_SYNTH,
        epilog="examples:\n"
        "  rirn data synth ride240fps.mp4 --out data/ride --window 13\n"
        "  rirn data synth holiday.mp4 --out data/holiday --method interpolate --subframes 8 --window 9\n"
        "  rirn data synth photos/ --out data/shaken --method shake --size [360,640] --shrink 2 --clips 3",
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="videos, folders of frames, or photos to shake",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the data set")
    parser.add_argument("--workers", type=int, default=default_threads(), help="threads for optical flow")
    return parser


def _synth(options: Namespace) -> None:
    check_there(*options.sources)
    from rirn.synth import MANIFEST, synthesize

    made = synthesize(options.sources, options.out, options.settings(), workers=options.workers)["sequences"]
    print(
        f"{sum(s['pairs'] for s in made)} pairs in {len(made)} sequences; {options.out / MANIFEST} says how"
    )


ACTIONS: dict[str, tuple[Callable[[], OneLine], Callable[[Namespace], None]]] = {
    "check": (_check_parser, _check),
    "synth": (_synth_parser, _synth),
}
