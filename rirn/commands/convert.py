"""`rirn convert`: weights published by others."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, check_there

# Those of rirn.weights.convert, which needs torch.
KINDS = ("ifi-rnn", "strcnn", "estrnn", "stfan")
CHANNEL_ORDERS = ("bgr", "rgb")


def make_parser() -> Parser:
    parser = Parser(description="Turn a published checkpoint of the base networks into weights for rirn.")
    parser.add_argument("kind", choices=KINDS, help="what the checkpoint is of")
    parser.add_argument(
        "checkpoint", type=Path, help="file of torch.save from zzh-tech/ESTRNN or sczhou/STFAN"
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--channel_order", default="bgr", choices=CHANNEL_ORDERS, help="of its images")
    return parser


def run(options: Namespace) -> None:
    check_there(options.checkpoint)
    from rirn.weights.convert import convert

    convert(options.kind, options.checkpoint, options.out, channel_order=options.channel_order)
    print(options.out)
