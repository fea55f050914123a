"""``rirn evaluate``: scores on data sets, and relative speed."""

from __future__ import annotations

import dataclasses
import json
from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import Parser, add_blur, check_there, default_threads, pick_device, positive_int
from rirn.errors import RirnError
from rirn.files import replacing
from rirn.weights.names import find_weights

SUMMARY = "Score weights on folders of blurry and sharp frames: PSNR and SSIM of input and output."


def make_parser() -> Parser:
    parser = Parser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn evaluate --data GOPRO_Large --split test --json scores.json\n"
        "  rirn evaluate --data GOPRO_Large --split test --protocol estrnn --model runs/mine/weights.safetensors\n"
        "  rirn evaluate --robustness --data GOPRO_Large/test/GOPR0410_11_00\n"
        "  rirn evaluate --speed ifi-rnn rdbn+gsa",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="DIR", help="data sets or parts of them"
    )
    parser.add_argument("--split", default=None, help="only sequences of this split: train, val or test")
    add_blur(parser)
    parser.add_argument(
        "--model", default="rirn-small", help="weights: a name that comes with rirn, or a path"
    )
    parser.add_argument(
        "--protocol",
        default="rirn",
        choices=["rirn", "estrnn"],
        help="which frames count, and how they are rounded",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto uses a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="implementation of the ops: auto, reference, cpu, cuda or triton"
    )
    parser.add_argument(
        "--workers", type=int, default=default_threads(), help="threads that compute metrics beside the model"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=None,
        help="write all scores, including those of each frame, to this file",
    )
    parser.add_argument(
        "--save-frames", type=Path, default=None, metavar="DIR", help="write restored frames to this folder"
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="score sharp, compressed, noisy, smaller and static versions of each sequence, or of a folder of sharp frames",
    )
    parser.add_argument(
        "--speed",
        nargs="*",
        default=None,
        metavar="NAME",
        help="time a step of these networks (default: all in the paper) over one of their base; gru is gru+rirn; needs no data",
    )
    parser.add_argument(
        "--height", type=positive_int, default=720, help="frame height for --speed, in pixels"
    )
    parser.add_argument("--width", type=positive_int, default=1280, help="frame width for --speed, in pixels")
    return parser


def run(options: Namespace) -> None:
    if options.speed is not None:
        ignored = [name for name in ("data", "split", "json", "save_frames") if getattr(options, name)]
        if ignored:
            names = " and ".join(f"--{name.replace('_', '-')}" for name in ignored)
            raise RirnError(
                f"--speed scores nothing, so that {names} would do nothing; give one or the other"
            )
        return _speed(options)
    if not options.data:
        raise RirnError("nothing to score; give --data DIR, or --speed")
    # What would fail only after hours. No process of several begins to write before all have looked: they meet first.
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise RirnError(f"there is no folder {options.json.parent} for --json; make it first")
    if options.json is not None and options.json.is_dir():
        raise RirnError(f"{options.json} is a folder; give --json a file")
    find_weights(options.model)
    check_there(*options.data)
    if options.robustness:
        return _robustness(options)
    frames = options.save_frames
    if frames is not None and frames.exists() and not (frames.is_dir() and not any(frames.iterdir())):
        raise RirnError(f"{frames} is there already and not an empty folder; give a new one to --save-frames")
    from rirn import load, ops
    from rirn.data import find_sequences
    from rirn.evaluation import PROTOCOLS, evaluate_in_ranks
    from rirn.evaluation.report import format_table, to_json

    model = load(options.model, device=pick_device(options.device))
    sequences = [
        dataclasses.replace(s, name=f"{folder.resolve().name}/{s.name}" if len(options.data) > 1 else s.name)
        for folder in options.data
        for s in find_sequences(folder, split=options.split, blur=options.blur)
    ]
    with ops.use_backend(options.backend):
        scores = evaluate_in_ranks(
            model, sequences, protocol=options.protocol, workers=options.workers, save_to=frames
        )
    if scores is None:
        return
    protocol = PROTOCOLS[options.protocol]
    print(format_table(scores, options.model, protocol))
    if options.json is not None:
        content = to_json(scores, options.model, protocol, [str(folder) for folder in options.data])
        with replacing(options.json) as partial:
            partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _robustness(options: Namespace) -> None:
    from rirn import load, ops
    from rirn.evaluation.report import finite
    from rirn.evaluation.robustness import format_robustness, robustness

    ignored = [name for name in ("split", "blur", "save_frames") if getattr(options, name)]
    if ignored:
        raise RirnError(f"--robustness knows no --{ignored[0].replace('_', '-')}; leave it out")
    model = load(options.model, device=pick_device(options.device))
    with ops.use_backend(options.backend):
        rows = list(robustness(model, options.data, with_ssim=True, workers=options.workers))
    print(format_robustness(rows, options.model))
    if options.json is not None:
        content = {"model": options.model, "rows": [dataclasses.asdict(row) for row in rows]}
        with replacing(options.json) as partial:
            partial.write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def _speed(options: Namespace) -> None:
    from rirn import ops
    from rirn.evaluation import paper
    from rirn.evaluation.speed import added_time, format_ratios

    names = dict.fromkeys(
        row.model for table in paper.TABLES.values() for row in table.rows if row.model != row.base
    )
    size = (options.height, options.width)
    with ops.use_backend(options.backend):
        ratios = [
            added_time(name, size=size, device=pick_device(options.device)) for name in options.speed or names
        ]
    print(format_ratios(ratios, size))
