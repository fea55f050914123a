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
        "checkpoint", type=Path, help="file of torch.save from zzh-tech/ESTRNN, sczhou/STFAN or SimDeblur"
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument(
        "--channel_order",
        choices=list(CHANNEL_ORDERS),
        help="of its images (default: as the public code reads them)",
    )
    parser.add_argument(
        "--ends",
        choices=["replicate", "drop"],
        help="of a video, for strcnn and estrnn: every frame has an image, or those without neighbours have none",
    )
    parser.add_argument("--past", type=int, help="earlier frames that GSA of estrnn reads, if not 2")
    parser.add_argument("--future", type=int, help="later ones, likewise")
    return parser


def run(options: Namespace) -> None:
    from rirn.weights.convert import convert

    given = {name: options[name] for name in ("channel_order", "ends", "past", "future")}
    given = {name: value for name, value in given.items() if value is not None}
    convert(options.kind, options.checkpoint, options.out, **given)
    print(options.out)
