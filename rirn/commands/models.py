"""``rirn models``."""

from __future__ import annotations

from argparse import Namespace

from rirn.commands.parser import Parser, positive_int

SUMMARY = "List the models with their parameters, arithmetic, state size and delay."


def make_parser() -> Parser:
    parser = Parser(description=SUMMARY)
    parser.add_argument("--height", type=positive_int, default=720, help="frame height in pixels")
    parser.add_argument("--width", type=positive_int, default=1280, help="frame width in pixels")
    return parser


def run(options: Namespace) -> None:
    from rirn.models import model_names, summary
    from rirn.plugins import find_plugins

    find_plugins()

    print(f"{'model':18s} {'parameters':>11s} {'GMACs':>9s} {'state MiB':>10s} {'delay':>6s}")
    for name in model_names():
        (row,) = summary([name], frame_size=(options.height, options.width))
        print(f"{row.name:18s} {row.parameters:11,d} {row.gmacs:9.2f} {row.state_mib:10.2f} {row.delay:6d}")
    print(
        f"GMACs and state for one {options.width}x{options.height} frame amid a video, float32; delay in frames"
    )
