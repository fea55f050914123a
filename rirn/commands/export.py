"""``rirn export``."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser
from rirn.errors import RirnError
from rirn.weights.names import find_weights

SUMMARY = "Export one step of a model for programs without PyTorch."


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn export --onnx rirn-tiny tiny.onnx --height 720 --width 1280\n"
        "  rirn export --onnx runs/mine/weights.safetensors mine.onnx",
    )
    parser.add_argument(
        "--onnx", action="store_true", help="output format; required, since ONNX is the only one"
    )
    parser.add_argument(
        "model", help="weights, by a name that comes with rirn or a path; or the name of an untrained model"
    )
    parser.add_argument("out", type=Path, help="file to write, ending in .onnx")
    parser.add_argument("--height", type=int, default=720, help="frame height in pixels")
    parser.add_argument("--width", type=int, default=1280, help="frame width in pixels")
    return parser


def run(options: Namespace) -> None:
    if not options.onnx:
        raise RirnError("say in which format to write; there is --onnx")
    if Path(options.model).suffix == ".safetensors":
        find_weights(options.model)
    from rirn.export import export_onnx

    for path in export_onnx(options.model, options.out, height=options.height, width=options.width):
        print(path)
