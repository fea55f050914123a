"""``rirn figures``: the paper's figures, for any weights."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, add_blur, check_there, pick_device
from rirn.figures import FIGURES
from rirn.weights.names import find_weights

SUMMARY = "Draw the figures of the paper for trained models, with the numbers behind them as tables."


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn figures 3 4 6 --model runs/dtb/weights.safetensors runs/rirn/weights.safetensors --data GOPRO_Large/test\n"
        "  rirn figures reach cut --model runs/base/weights.safetensors runs/irm/weights.safetensors --data GOPRO_Large\n"
        "  rirn figures 5 --data ride.mp4 --frame 12 --crop 160x120+300+80",
    )
    add = parser.add_argument
    add(
        "figures",
        nargs="+",
        choices=FIGURES,
        metavar="FIGURE",
        help="3: states and errors; 4: sums of the gates; 5 and 7 to 10: crops; 6: blended features; reach: gradients into the "
        "past; cut: what three blurred frames cost",
    )
    add(
        "--model",
        nargs="+",
        default=["rirn-small"],
        metavar="WEIGHTS",
        help="names of weights that come with rirn, or paths",
    )
    add(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="data set; figures 4, 5 and reach also take a video or a folder of images",
    )
    add("--split", default=None, help="only sequences of this split: train, val or test")
    add_blur(parser)
    add("--sequences", type=int, default=None, metavar="N", help="at most N sequences")
    add("--frames", type=int, default=30, metavar="N", help="at most the first N frames of each")
    add("--frame", type=int, default=None, metavar="N", help="frame to show; by default the middle one")
    add(
        "--crop",
        default=None,
        metavar="WxH+X+Y",
        help="part of the frame shown in figure 5; by default where the blur is worst",
    )
    add("--lags", type=int, default=20, metavar="K", help="how many frames back reach looks")
    add("--seed", type=int, default=0, help="seed of the random directions of reach")
    add("--out", type=Path, default=Path("figures"), metavar="DIR", help="folder for pictures and tables")
    add("--device", default="auto", help="cpu, cuda, ...; auto uses a GPU if there is one")
    add("--backend", default="auto", help="implementation of the ops: auto, reference, cpu, cuda or triton")
    return parser


def run(options: Namespace) -> None:
    for name in options.model:
        find_weights(name)
    check_there(options.data)
    from rirn import ops
    from rirn.figures.command import draw

    with ops.use_backend(options.backend):
        draw(options, pick_device(options.device))
