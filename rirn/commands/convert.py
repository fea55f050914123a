"""``rirn convert``: weights published by others."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, check_there

SUMMARY = "Convert a published checkpoint of a base network into weights for rirn."

# Those of rirn.weights.convert, which needs torch.
KINDS = ("ifi-rnn", "strcnn", "estrnn", "mmp-rnn", "stfan", "estrnn-simdeblur", "stfan-simdeblur")
CHANNEL_ORDERS = ("bgr", "rgb")


def make_parser() -> Parser:
    parser = Parser(description=SUMMARY)
    parser.add_argument("kind", choices=KINDS, help="network and code that the checkpoint is from")
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="torch.save file from zzh-tech/ESTRNN, sollynoay/MMP-RNN, sczhou/STFAN or SimDeblur",
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument(
        "--channel_order",
        choices=CHANNEL_ORDERS,
        help="channel order of its images (default: as the public code reads them)",
    )
    parser.add_argument(
        "--ends",
        choices=["replicate", "drop"],
        help="ends of a video, for strcnn, estrnn and mmp-rnn: restore every frame, or none that lacks neighbours",
    )
    parser.add_argument(
        "--past", type=int, help="earlier frames that the head of estrnn or mmp-rnn reads, if not 2"
    )
    parser.add_argument("--future", type=int, help="later frames, likewise")
    parser.add_argument(
        "--no_attention",
        dest="attention",
        action="store_const",
        const=False,
        help="for mmp-rnn code that leaves out the attention in front of the head",
    )
    return parser


def run(options: Namespace) -> None:
    check_there(options.checkpoint)
    from rirn.weights.convert import convert

    given = {
        name: getattr(options, name) for name in ("channel_order", "ends", "past", "future", "attention")
    }
    given = {name: value for name, value in given.items() if value is not None}
    convert(options.kind, options.checkpoint, options.out, **given)
    print(options.out)
