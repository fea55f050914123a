"""`rirn table`: the paper's tables."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from rirn.commands.parser import Parser


def make_parser() -> Parser:
    parser = Parser(
        description="Train and score every row of a table of the paper, and print it beside the paper's figures.",
        epilog="examples:\n  rirn table 2 --mini\n  rirn table 3 --data ~/data --out runs/tables --dry-run",
    )
    parser.add_argument("number", type=int, choices=[1, 2, 3], help="of the table in the paper")
    parser.add_argument("--mini", action="store_true", help="small recipes, which a CPU can finish")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder with GOPRO_Large, REDS, DVD, each with train/ and test/ or val/; --mini alone makes a small data set",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="folder for the runs")
    parser.add_argument("--no-train", action="store_true", help="only rows whose training is done")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, as commands")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton"
    )
    return parser


def run(options: Namespace) -> None:
    from rirn.training import tables

    jobs = tables.plan(
        options.number,
        mini=options.mini,
        data=options.data,
        out=options.out,
        device=options.device,
        backend=options.backend,
    )
    if options.dry_run:
        for job in jobs:
            print(f"{tables.status(job):6s} {job.command}")
        return
    results = tables.run(jobs, training=not options.no_train)
    print(tables.format_table(options.number, jobs, results))
