"""What the command line of the benchmark offers, without torch: help and mistakes are answered at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from rirn import markers
from rirn.errors import RirnError

DTYPES = ("fp32", "bf16", "fp16", "fast")
MARKER = "rirn bench"
"""Between lines of this name stand the tables of a page, see :mod:`rirn.markers`."""

PASSES = ("forward", "backward", "forward+backward")

MODULES = {"ATB": (80,), "trunk": (80,)}
"""Channels of what is made of several ops: adaptive temporal blending, and six residual blocks."""

GROUPS = {
    "ops": PASSES,
    "modules": PASSES,
    "models": ("forward",),
    "train": ("forward+backward",),
    "ratios": ("forward",),
}
"""Kinds of cases and the passes that are timed of each. ``models`` is one step amid a video, ``train`` a clip with its loss,
``ratios`` the steps of every base network alone and with RIRN, by turns."""

EXAMPLES = """examples:
  rirn bench --quick
  rirn bench --op atb_blend --size 1x32x270x480 --dtype bf16
  rirn bench --model ifi-rnn+rirn --model rdbn+rirn --frame 540x960 --json now.json --compare before.json
  rirn bench --from now.json --plot pictures --markdown table.md"""


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(
        prog="rirn bench",
        description="Time the fused ops and networks against the eager and the compiled reference, equality first.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_subjects(options.add_argument_group("what is timed"))
    _add_conditions(options.add_argument_group("how"))
    _add_outputs(options.add_argument_group("what becomes of it"))
    return options


def _add_subjects(what: argparse._ArgumentGroup) -> None:
    what.add_argument("--only", choices=list(GROUPS), action="append", help="(default: ops, modules, models)")
    what.add_argument(
        "--op",
        metavar="OP",
        action="append",
        help=f"such as atb_blend, or {' and '.join(MODULES)} (default: all)",
    )
    what.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help="network, see rirn models, or weights that ship (default: ifi-rnn+rirn)",
    )
    what.add_argument("--pass", dest="passes", choices=PASSES, action="append", help="(default: all)")
    what.add_argument(
        "--dtype", choices=DTYPES, action="append", help="fast: fp32 but for our products (default: fp32)"
    )
    what.add_argument(
        "--size",
        metavar="[NxCx]HxW",
        help="of the features of ops and modules (default: 180x320, a 720p frame / 4, with the channels of published networks)",
    )
    what.add_argument("--frame", metavar="HxW", help="of the frames of networks (default: 720x1280)")
    what.add_argument("--clip", metavar="NxTxHxW", help="of a training step (default: 2x8x128x128)")


def _add_conditions(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--device", default="auto", help="(default: a GPU if there is one, else cpu)")
    how.add_argument("--threads", type=int, help="of torch on the CPU (default: as torch decides)")
    how.add_argument(
        "--backend", action="append", help="fused backend to time (default: all of ops, else auto)"
    )
    how.add_argument("--rounds", type=int, help="timed rounds at most (default: 20)")
    how.add_argument(
        "--seconds", type=float, default=20.0, help="for one pass of a case, but 3 rounds (default: 20)"
    )
    how.add_argument("--no-compile", action="store_true", help="without torch.compile, which takes minutes")
    how.add_argument(
        "--quick", action="store_true", help="small sizes, 3 rounds, without torch.compile: does it all run?"
    )
    how.add_argument(
        "--tune",
        action="store_true",
        help="alone: measure what takes least time on this GPU at each width, for auto to read",
    )


def _add_outputs(out: argparse._ArgumentGroup) -> None:
    out.add_argument("--json", type=Path, metavar="FILE", help="write results, machine and versions")
    out.add_argument(
        "--from", type=Path, metavar="FILE", dest="read", action="append", help="measure nothing, read these"
    )
    out.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write tables, between the markers if FILE exists"
    )
    out.add_argument("--plot", type=Path, metavar="DIR", help="draw speedups and rooflines, with matplotlib")
    out.add_argument("--compare", type=Path, metavar="OLD", help="print times over those of an older --json")


def check_files(options: argparse.Namespace) -> None:
    """Find out before hours of timing what cannot be read, or could not be written after them.

    Raises:
        RirnError: a file or folder is not as it must be.
    """
    for path in filter(None, (*(options.read or ()), options.compare)):
        if not path.exists():
            raise RirnError(f"cannot read results from {path}: there is no such file")
    for path in filter(None, (options.json, options.markdown)):
        if not path.parent.is_dir():
            raise RirnError(f"there is no folder {path.parent} to write {path.name} to; make it first")
        if path.is_dir():
            raise RirnError(f"{path} is a folder; give the file to write")
    if options.markdown is not None:
        markers.check(options.markdown, MARKER)
    if options.plot is not None and options.plot.exists() and not options.plot.is_dir():
        raise RirnError(f"{options.plot} is a file; give --plot a folder")
