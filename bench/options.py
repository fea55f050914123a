"""Command-line options of the benchmark, without importing torch, so that help and errors appear at once."""

from __future__ import annotations

import argparse
from pathlib import Path

from rirn import markers
from rirn.errors import RirnError

DTYPES = ("fp32", "bf16", "fp16", "fast")
MARKER = "rirn bench"
"""Name of the markers around the tables in a page, see :mod:`rirn.markers`."""

PASSES = ("forward", "backward", "forward+backward")

MODULES = {"ATB": (80,), "trunk": (80,)}
"""Channels of modules that use several ops: adaptive temporal blending, and six residual blocks."""

GROUPS = {
    "ops": PASSES,
    "modules": PASSES,
    "models": ("forward",),
    "train": ("forward+backward",),
    "ratios": ("forward",),
}
"""Kinds of cases, and the passes that are timed for each. ``models`` is one step within a video, ``train`` a clip with its
loss, ``ratios`` alternates steps of every base network without and with RIRN."""

EXAMPLES = """examples:
  rirn bench --quick
  rirn bench --op atb_blend --size 1x32x270x480 --dtype bf16
  rirn bench --model ifi-rnn+rirn --model rdbn+rirn --frame 540x960 --json now.json --compare before.json
  rirn bench --from now.json --plot pictures --markdown table.md"""


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    options = argparse.ArgumentParser(
        prog="rirn bench",
        description="Check the fused ops and networks against the reference, then time them against it, eager and compiled.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_subjects(options.add_argument_group("what to time"))
    _add_conditions(options.add_argument_group("measurement"))
    _add_outputs(options.add_argument_group("output"))
    return options


def _add_subjects(what: argparse._ArgumentGroup) -> None:
    what.add_argument(
        "--only",
        choices=list(GROUPS),
        action="append",
        help="kind of cases; repeatable (default: ops, modules, models)",
    )
    what.add_argument(
        "--op",
        metavar="OP",
        action="append",
        help=f"op such as atb_blend, or module: {' or '.join(MODULES)} (default: all)",
    )
    what.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        help="network, see rirn models, or shipped weights (default: ifi-rnn+rirn)",
    )
    what.add_argument(
        "--pass", dest="passes", choices=PASSES, action="append", help="pass to time (default: all)"
    )
    what.add_argument(
        "--dtype",
        choices=DTYPES,
        action="append",
        help="dtype; fast is fp32 with fast products in our kernels (default: fp32)",
    )
    what.add_argument(
        "--size",
        metavar="[NxCx]HxW",
        help="feature size for ops and modules (default: 180x320, 720p / 4, with the channels of published networks)",
    )
    what.add_argument("--frame", metavar="HxW", help="frame size for networks (default: 720x1280)")
    what.add_argument("--clip", metavar="NxTxHxW", help="clip size for training steps (default: 2x8x128x128)")


def _add_conditions(how: argparse._ArgumentGroup) -> None:
    how.add_argument("--device", default="auto", help="device (default: a GPU if there is one, else cpu)")
    how.add_argument("--threads", type=int, help="CPU threads of torch (default: torch's choice)")
    how.add_argument(
        "--backend", action="append", help="fused backend to time (default: all for ops, else auto)"
    )
    how.add_argument("--rounds", type=int, help="maximum number of timed rounds (default: 20)")
    how.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="time for one pass of a case, but at least 3 rounds (default: 20)",
    )
    how.add_argument("--no-compile", action="store_true", help="skip torch.compile, which takes minutes")
    how.add_argument(
        "--quick", action="store_true", help="smoke test: small sizes, 3 rounds, no torch.compile"
    )
    how.add_argument(
        "--tune",
        action="store_true",
        help="measure which backend is fastest on this GPU at each width, for auto to use; takes no other option",
    )


def _add_outputs(out: argparse._ArgumentGroup) -> None:
    out.add_argument("--json", type=Path, metavar="FILE", help="write results, machine and versions to FILE")
    out.add_argument(
        "--from",
        type=Path,
        metavar="FILE",
        dest="read",
        action="append",
        help="read these results instead of measuring",
    )
    out.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write tables to FILE, between its markers if it exists"
    )
    out.add_argument(
        "--plot", type=Path, metavar="DIR", help="draw speedups and rooflines into DIR with matplotlib"
    )
    out.add_argument(
        "--compare", type=Path, metavar="OLD", help="print times relative to those of an older --json file"
    )


def check_files(options: argparse.Namespace) -> None:
    """Check, before hours of timing, that all files can be read or written.

    Raises:
        RirnError: a file or folder is missing or unsuitable.
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
