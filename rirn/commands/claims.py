"""``rirn claims``: test the paper's claims."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rirn import markers
from rirn.commands.parser import Parser, check_there
from rirn.errors import RirnError

if TYPE_CHECKING:
    from rirn.training.verdicts import Evidence

SUMMARY = (
    "Train networks with and without each addition on the same clips, and test the paper's claims on them."
)
MARKER = "rirn claims"


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn claims --data ~/data --dry-run\n"
        "  rirn claims --data ~/data --out runs/claims --markdown claims.md --plots plots\n"
        "A stopped run continues where it left off; several at once share the work.",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder that holds photos, photos-test, and GOPRO_Large and GOPRO_Large_all with train/ and test/ each",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/claims"), help="folder for the runs")
    parser.add_argument(
        "--results",
        type=Path,
        default=None,
        metavar="FILE",
        help="JSON Lines file of finished runs, read and appended to; by default results.jsonl in --out",
    )
    parser.add_argument(
        "--markdown",
        type=Path,
        default=None,
        metavar="FILE",
        help="also write the verdicts between their markers in this page",
    )
    parser.add_argument(
        "--plots",
        type=Path,
        default=None,
        metavar="DIR",
        help="also draw claims and learning curves (needs matplotlib)",
    )
    parser.add_argument("--no-train", action="store_true", help="do not train; judge by existing results")
    parser.add_argument("--dry-run", action="store_true", help="list the training runs in order, and exit")
    parser.add_argument(
        "--trials", action="store_true", help="also train RIRN with changes that may help it; one seed"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto uses a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="implementation of the ops: auto, reference, cpu, cuda or triton"
    )
    return parser


def run(options: Namespace) -> None:
    if options.data is not None:
        check_there(options.data)
    elif not (options.no_train or options.dry_run):
        raise RirnError(
            "say where the data are with --data DIR, or give --no-train to judge by results that are there"
        )
    if options.markdown is not None:
        markers.check(options.markdown, MARKER)  # before hours of training
    from rirn.training import claims, verdicts
    from rirn.training.results import progress, read_results

    plt = None
    if options.plots is not None:
        from rirn.bench.plots import pyplot

        plt = pyplot("--plots", "figures")
    data = options.data or Path()
    runs = claims.plan(
        data, options.out, trials=options.trials, device=options.device, backend=options.backend
    )
    file = options.results or options.out / "results.jsonl"
    if options.dry_run:
        known = read_results(file, claims.Trained.from_line)
        for run in runs:
            seed, steps = run.config.seed, run.config.optim.steps
            reached = progress(run.config, scored=claims.is_scored(run, known))
            print(f"{reached:7s} {run.network}, seed {seed}, {steps} steps")
        return
    trained = (
        read_results(file, claims.Trained.from_line) if options.no_train else claims.train_all(runs, file)
    )
    known = claims.of_plan(trained, claims.plan(data, options.out, trials=True))
    if len(known) < len(trained):
        print(f"left out: {len(trained) - len(known)} result(s) of other settings", file=sys.stderr)
    evidence = verdicts.Evidence(known)
    plots = {} if plt is None else _draw(plt, evidence, options.plots, options.markdown)
    text = verdicts.page(evidence, plots)
    print(text)
    if options.markdown is not None:
        markers.write(options.markdown, MARKER, text + "\n")


def _draw(plt: Any, evidence: Evidence, folder: Path, page: Path | None) -> dict[str, str]:
    """Draw the claims and the networks on each base; return links from the page by base."""
    from rirn.figures.canvas import make_folder
    from rirn.figures.claims import draw, draw_differences
    from rirn.training import verdicts

    make_folder(folder)
    drawn = {}
    found = [(claim.sentence, evidence.difference(claim)) for claim in verdicts.CLAIMS]
    known = [(name, verdicts.verdict(d), (d.mean, d.low, d.high)) for name, d in found if d is not None]
    if known:
        drawn[verdicts.ALL] = draw_differences(plt, known, folder / "claims.png")
    for base in dict.fromkeys(run.base for run in evidence.runs.values()):
        path = folder / f"claims-{base}.png"
        drawn[base] = draw(plt, base, evidence.curves(base), evidence.since(base), path)
    start = Path() if page is None else page.parent
    return {name: Path(os.path.relpath(path, start)).as_posix() for name, path in drawn.items()}
