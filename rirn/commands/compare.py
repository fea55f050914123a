"""``rirn compare``: two videos side by side on one page."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, parse_rate, pick_device
from rirn.video.files import check_source
from rirn.weights.names import find_weights

SUMMARY = "Compare two videos on one HTML page that works offline."


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn compare ride.mp4 sharp.mp4 -o report.html\n"
        "  rirn compare blur/ restored/ truth/ -o report.html\n"
        "  rirn compare ride.mp4 sharp.mp4 --skip 300 --frames 120\n"
        "  rirn compare ride.mp4 sharp.mp4 --frames 60 --maps",
    )
    add = parser.add_argument
    add("before", metavar="A", help="video file or folder of images, shown on the left")
    add("after", metavar="B", help="the same, shown on the right")
    add("truth", metavar="TRUTH", nargs="?", default=None, help="sharp frames, for PSNR and SSIM")
    add("-o", "--out", type=Path, default=Path("report.html"), help="page to write")
    add("--skip", type=int, default=0, metavar="N", help="leave out the first N frames")
    add("--frames", type=int, default=None, metavar="N", help="show at most N frames")
    add("--quality", type=int, default=92, help="JPEG quality of the pictures in the page, 1 to 100")
    add("--rate", default="25", help="frame rate of images, such as 25 or 30000/1001")
    add("--maps", action="store_true", help="also show how --model, run on A, weighs old and new features")
    add("--model", default="rirn-small", help="weights for --maps: a name that comes with rirn, or a path")
    add("--device", default="auto", help="where --maps runs the model: cpu, cuda, ...")
    return parser


def run(options: Namespace) -> None:
    for source in filter(None, (options.before, options.after, options.truth)):
        check_source(source)
    if options.maps:
        find_weights(options.model)
    from rirn.compare.maps import GateMaps
    from rirn.compare.report import write_report
    from rirn.weights.files import load

    maps = GateMaps(load(options.model), pick_device(options.device)) if options.maps else None
    count = write_report(
        options.before,
        options.after,
        options.out,
        options.truth,
        rate=parse_rate(options.rate),
        skip=options.skip,
        frames=options.frames,
        quality=options.quality,
        maps=maps,
    )
    megabytes = options.out.stat().st_size / 1e6
    print(f"{options.out}: {count} {'frame' if count == 1 else 'frames'}, {megabytes:.1f} MB")
