"""``rirn convert``: weights published by others."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, check_there

SUMMARY = "Turn a published checkpoint of the base networks into weights for rirn."

# Those of rirn.weights.convert, which needs torch.
KINDS = ("ifi-rnn", "strcnn", "estrnn", "mmp-rnn", "stfan", "estrnn-simdeblur", "stfan-simdeblur")
CHANNEL_ORDERS = ("bgr", "rgb")


def make_parser() -> Parser:
    parser = Parser(description=SUMMARY)
    parser.add_argument("kind", choices=KINDS, help="what the checkpoint is of")
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="file of torch.save from zzh-tech/ESTRNN, sollynoay/MMP-RNN, sczhou/STFAN or SimDeblur",
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument(
        "--channel_order",
        choices=CHANNEL_ORDERS,
        help="of its images (default: as the public code reads them)",
    )
    parser.add_argument(
        "--ends",
        choices=["replicate", "drop"],
        help="of a video, for strcnn, estrnn and mmp-rnn: every frame has an image, or those without neighbours have none",
    )
    parser.add_argument(
        "--past", type=int, help="earlier frames that the head of estrnn or mmp-rnn reads, if not 2"
    )
    parser.add_argument("--future", type=int, help="later ones, likewise")
    parser.add_argument(
        "--no_attention",
        dest="attention",
        action="store_const",
        const=False,
        help="of mmp-rnn: for code that leaves the attention in front of the head out",
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
