"""`rirn convert`: weights published by others."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from rirn.commands.parser import Parser


def make_parser() -> Parser:
    from rirn.weights.convert import CHANNEL_ORDERS, KINDS

    parser = Parser(description="Turn a published checkpoint of the base networks into weights for rirn.")
    parser.add_argument("kind", choices=list(KINDS), help="what the checkpoint is of")
    parser.add_argument(
        "checkpoint", type=Path, help="file of torch.save from zzh-tech/ESTRNN or sczhou/STFAN"
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--channel_order", default="bgr", choices=list(CHANNEL_ORDERS), help="of its images")
    return parser


def run(options: Namespace) -> None:
    from rirn.weights.convert import convert

    convert(options.kind, options.checkpoint, options.out, channel_order=options.channel_order)
    print(options.out)
