"""``rirn table``: the paper's tables."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn import markers
from rirn.commands.parser import Parser, check_there

SUMMARY = "Train and score every row of one of the paper's tables, and print it beside the paper's numbers."


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn table 2 --mini --controls --seeds 3\n"
        "  rirn table 3 --data ~/data --out runs/tables --dry-run",
    )
    parser.add_argument("number", choices=["1", "2", "3"], help="number of the table in the paper")
    parser.add_argument("--mini", action="store_true", help="use small recipes that a CPU can finish")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder with GOPRO_Large, REDS, DVD, each with train/ and test/ or val/; without it --mini makes a small data set",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="training runs per row")
    parser.add_argument(
        "--controls",
        action="store_true",
        help="add rows that the paper does not have: the added layers without memory, one module alone",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=None,
        metavar="FILE",
        help="JSON Lines file of scored rows, read and appended to; by default results.jsonl in --out",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        default=None,
        metavar="FILE",
        help="also write the table between its markers in this page",
    )
    parser.add_argument(
        "--no-train", action="store_true", help="do not train; only rows with trained weights"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would run, and exit")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto uses a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="implementation of the ops: auto, reference, cpu, cuda or triton"
    )
    return parser


def run(options: Namespace) -> None:
    number = int(options.number)
    if options.data is not None:
        check_there(options.data)
    from rirn.training import results, tables

    marker = f"rirn table {number}"
    if options.markdown is not None:
        markers.check(options.markdown, marker)  # before hours of training
    jobs = tables.plan(
        number,
        mini=options.mini,
        data=options.data,
        out=options.out,
        seeds=options.seeds,
        controls=options.controls,
        device=options.device,
        backend=options.backend,
    )
    file = options.results or options.out / "results.jsonl"
    if options.dry_run:
        known = results.read_results(file)
        for command in tables.data_commands(jobs):
            print(f"{'new':7s} {command}")
        for job in jobs:
            reached = results.progress(job.config, scored=job.result(known) is not None)
            print(f"{reached:7s} {job.command}")
        return
    lines = tables.run(jobs, file, training=not options.no_train)
    print(results.table_text(number, lines))
    if options.markdown is not None:
        markers.write(options.markdown, marker, results.table_text(number, lines, markdown=True) + "\n")
