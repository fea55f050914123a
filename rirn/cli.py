"""The command line. Every error a person can cause is one sentence and a non-zero exit, without a traceback."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import (
    ActionConfigFile,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_parsing_settings,
)

from rirn import __version__
from rirn.errors import RirnError
from rirn.training.config import TrainConfig

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help texts of the fields of TrainConfig


class HelpFormatter(DefaultHelpFormatter):
    """Keeps the lines of the examples below the options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(ArgumentParser):
    """An argument parser that answers a mistake in one line, with the near match if an option or key is unknown."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        # On the command line, or in a configuration file, about which the parser of all commands complains.
        unknown = re.search(r"nrecognized arguments: --([\w.-]+)|not accept option '([\w.-]+)'", message)
        if unknown:
            command = re.match(r"Subcommand '(\w+)'", message)
            parser = COMMANDS[command[1]][0]() if command and command[1] in COMMANDS else self
            dashes, word = ("--", unknown[1]) if unknown[1] else ("", unknown[2])
            options = [o.lstrip("-") for a in parser._actions for o in a.option_strings if o.startswith("--")]
            close = difflib.get_close_matches(word, options, n=1)
            message += f"; did you mean {dashes}{close[0]}?" if close else ""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


class RecipeFile(ActionConfigFile):
    """A configuration file, or the name of one that comes with the package."""

    def __call__(self, parser, cfg, values, option_string=None):
        from rirn.training.recipes import find_recipe

        super().__call__(parser, cfg, str(find_recipe(values)), option_string)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 after an error, 2 for a wrong command line, 130 after Ctrl-C."""
    parser = Parser(prog="rirn", description="Deblur video with recurrence-in-recurrence networks.")
    parser.add_argument("--version", action="version", version=f"rirn {__version__}")
    commands = parser.add_subcommands(title="commands", metavar="COMMAND")
    _add_commands(commands, "rirn", {name: make for name, (make, _) in COMMANDS.items()})
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["bench"]:  # has a parser of its own, since it is also `python -m rirn.bench`
            return _bench(argv[1:])
        options = parser.parse_args(argv)
        return COMMANDS[options.subcommand][1](options[options.subcommand]) or 0
    except RirnError as error:
        print(f"rirn {argv[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"rirn {argv[0]}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # somebody reads the output through `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _add_commands(commands, prog: str, makers: dict[str, Callable[[], Parser]]) -> None:
    for name, make in makers.items():
        subparser = make()
        commands.add_subcommand(name, subparser, help=subparser.description)
        subparser.prog = f"{prog} {name}"
        if subparser.prog == "rirn data":
            # Here and not in its own parser, because jsonargparse wants outer parsers to be added first.
            actions = subparser.add_subcommands(title="actions", metavar="ACTION", dest="action")
            _add_commands(actions, subparser.prog, {name: make for name, (make, _) in DATA_ACTIONS.items()})


def _deblur_parser() -> Parser:
    parser = Parser(
        prog="rirn deblur",
        usage="rirn deblur [options] SOURCE [SOURCE ...] TARGET",
        description="Restore motion-blurred videos.",
        epilog="examples:\n"
        "  rirn deblur ride.mp4 sharp.mp4\n"
        "  rirn deblur ride.mp4 frames/ --compare\n"
        "  rirn deblur photos/ sharp.mkv --rate 30 --model runs/mine/weights.safetensors\n"
        "  rirn deblur 'clips/*.mp4' sharp/ --jobs 2 --resume\n"
        "  ffmpeg -i ride.mp4 -f yuv4mpegpipe - | rirn deblur - - | ffplay -\n"
        "  rirn deblur ride.mp4 --benchmark",
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="+",
        metavar="SOURCE ... TARGET",
        help="videos, folders of images or of videos, patterns, camera:NAME, or - for a pipe; then the target: a "
        "video file (.mp4, .mov, .mkv), a folder for PNG images, a folder for many videos, or -",
    )
    add("--model", default="rirn-small", help="weights: a name that comes with rirn, or a path")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one")
    add("--dtype", default="fp32", choices=["fp32", "bf16", "fp16"], help="precision of the network")
    add("--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton")
    add("--tile", default="auto", help="side of tiles in pixels, off, or auto for what the free memory holds")
    add("--scene-reset", default="auto", choices=["auto", "off"], help="forget the past at a cut")
    add("--compare", action="store_true", help="write input and result side by side")
    add("--resume", action="store_true", help="continue where an interrupted run stopped; skip what is done")
    add("--jobs", type=int, default=1, help="videos at the same time, each in a process of its own")
    add(
        "--benchmark",
        action="store_true",
        help="measure decoding and network, write nothing; takes no target",
    )
    add("--codec", default=None, help="encoder: libx264, libx265 (default above 8 bits), prores_ks, ...")
    add("--crf", type=int, default=None, help="quality, smaller is better: 18 for libx264, 20 for libx265")
    add("--preset", default=None, help="speed of the encoder: ultrafast to veryslow")
    add("--pix-fmt", default=None, help="sample format, such as yuv422p10le; by default 4:2:0")
    add(
        "--encoder-option",
        action="append",
        metavar="NAME=VALUE",
        help="further option of the encoder; repeatable",
    )
    add(
        "--hdr",
        default="refuse",
        choices=["refuse", "pass"],
        help="HDR: pass restores the code values as they are",
    )
    add(
        "--rate",
        "--raw-fps",
        default="25",
        help="frames per second of images or raw frames: 25 or 30000/1001",
    )
    add("--raw-size", default=None, metavar="WxH", help="- is RGB of 8 bits without a header, of this size")
    return parser


def _deblur(options: Namespace) -> int:
    from rirn.video.command import run

    if len(options.paths) < 2 and not options.benchmark:
        _deblur_parser().error("the target is missing")
    return run(options, _device(options.device))


def _compare_parser() -> Parser:
    parser = Parser(
        description="Show two videos against each other on one HTML page that works offline.",
        epilog="examples:\n"
        "  rirn compare ride.mp4 sharp.mp4 -o report.html\n"
        "  rirn compare blur/ restored/ truth/ -o report.html\n"
        "  rirn compare ride.mp4 sharp.mp4 --skip 300 --frames 120\n"
        "  rirn compare ride.mp4 sharp.mp4 --frames 60 --maps",
    )
    add = parser.add_argument
    add("before", metavar="A", help="video file or folder of images, shown on the left")
    add("after", metavar="B", help="the same, shown on the right")
    add("truth", metavar="TRUTH", nargs="?", default=None, help="sharp frames, for PSNR and SSIM")
    add("-o", "--out", type=Path, default=Path("report.html"), help="page to write")
    add("--skip", type=int, default=0, metavar="N", help="leave out the first N frames")
    add("--frames", type=int, default=None, metavar="N", help="show at most N frames")
    add("--quality", type=int, default=92, help="of the JPEG pictures in the page, 1 to 100")
    add("--rate", default="25", help="frames per second of images: 25 or 30000/1001")
    add("--maps", action="store_true", help="also show how --model, run on A, weighs old and new features")
    add("--model", default="rirn-small", help="weights for --maps: a name that comes with rirn, or a path")
    add("--device", default="auto", help="where --maps runs the model: cpu, cuda, ...")
    return parser


def _compare(options: Namespace) -> None:
    from rirn.video.command import parse_rate
    from rirn.video.report import write_report

    maps = None
    if options.maps:
        from rirn import load
        from rirn.video.maps import GateMaps

        maps = GateMaps(load(options.model), _device(options.device))
    count = write_report(
        options.before,
        options.after,
        options.out,
        options.truth,
        rate=parse_rate(options.rate),
        skip=options.skip,
        frames=options.frames,
        quality=options.quality,
        maps=maps,
    )
    megabytes = options.out.stat().st_size / 1e6
    print(f"{options.out}: {count} {'frame' if count == 1 else 'frames'}, {megabytes:.1f} MB")


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    # A launcher that starts several processes on a machine numbers them.
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


def _threads() -> int:
    """Processors for each process that a launcher started on this machine."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def _train_parser() -> Parser:
    parser = Parser(
        description="Train a model on folders of blurry and sharp frames.",
        epilog="examples:\n"
        "  rirn train --out runs/mine --data.train+=GOPRO_Large/train --data.val+=GOPRO_Large/test\n"
        "  rirn train --config gopro --out runs/gopro --data.train+=GOPRO_Large/train --model.name rdbn+rirn\n"
        "  rirn train --config mine.yaml --optim.lr 2e-4\n"
        "  torchrun --nproc-per-node 8 -m rirn train --config gopro --out ...",
    )
    parser.add_argument(
        "--config",
        action=RecipeFile,
        help="YAML file with any of the options below, or a recipe that comes with rirn: gopro, reds, dvd, "
        "mini-gopro, mini-reds, mini-dvd",
    )
    parser.add_class_arguments(TrainConfig)
    return parser


def _train(options: Namespace) -> None:
    from rirn.training import train

    options.pop("config", None)
    weights = train(TrainConfig(**vars(_train_parser().instantiate(options))))
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
        print(weights)


def _table_parser() -> Parser:
    parser = Parser(
        description="Train and score every row of a table of the paper, and print it beside the paper's figures.",
        epilog="examples:\n  rirn table 2 --mini\n  rirn table 3 --data ~/data --out runs/tables --dry-run",
    )
    parser.add_argument("number", type=int, choices=[1, 2, 3], help="of the table in the paper")
    parser.add_argument("--mini", action="store_true", help="small recipes, which a CPU can finish")
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder with GOPRO_Large, REDS, DVD, each with train/ and test/ or val/; --mini alone makes a small data set",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/tables"), help="folder for the runs")
    parser.add_argument("--no-train", action="store_true", help="only rows whose training is done")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, as commands")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton"
    )
    return parser


def _table(options: Namespace) -> None:
    from rirn.training import tables

    jobs = tables.plan(
        options.number,
        mini=options.mini,
        data=options.data,
        out=options.out,
        device=options.device,
        backend=options.backend,
    )
    if options.dry_run:
        for job in jobs:
            print(f"{tables.status(job):6s} {job.command}")
        return
    results = tables.run(jobs, training=not options.no_train)
    print(tables.format_table(options.number, jobs, results))


def _evaluate_parser() -> Parser:
    parser = Parser(
        description="Score weights on folders of blurry and sharp frames: PSNR and SSIM of input and output.",
        epilog="examples:\n"
        "  rirn evaluate --data GOPRO_Large --split test --json scores.json\n"
        "  rirn evaluate --data GOPRO_Large --split test --protocol estrnn --model runs/mine/weights.safetensors\n"
        "  rirn evaluate --speed ifi-rnn rdbn",
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", default=[], metavar="DIR", help="data sets or parts of them"
    )
    parser.add_argument("--split", default=None, help="only sequences of this split: train, val or test")
    _add_blur(parser)
    parser.add_argument(
        "--model", default="rirn-small", help="weights: a name that comes with rirn, or a path"
    )
    parser.add_argument(
        "--protocol",
        default="rirn",
        choices=["rirn", "estrnn"],
        help="which frames count, and how they are rounded",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton"
    )
    parser.add_argument(
        "--workers", type=int, default=_threads(), help="threads that compute metrics beside the model"
    )
    parser.add_argument(
        "--json", type=Path, default=None, help="write the scores, of each frame too, to this file"
    )
    parser.add_argument(
        "--save-frames", type=Path, default=None, metavar="DIR", help="write restored frames to this folder"
    )
    parser.add_argument(
        "--speed",
        nargs="*",
        default=None,
        metavar="BASE",
        help="time a step of these base networks (all of the paper) without and with RIRN; needs no data",
    )
    parser.add_argument("--height", type=int, default=720, help="of the frames for --speed, pixels")
    parser.add_argument("--width", type=int, default=1280, help="of the frames for --speed, pixels")
    return parser


def _evaluate(options: Namespace) -> None:
    from rirn import load, ops
    from rirn.data import find_sequences
    from rirn.evaluation import PROTOCOLS, evaluate_in_ranks
    from rirn.evaluation.report import format_table, to_json

    if options.speed is not None:
        return _speed(options)
    if not options.data:
        raise RirnError("nothing to score; give --data DIR, or --speed")
    # What would fail only after hours. No process of several begins to write before all have looked: they meet first.
    if options.json is not None and not options.json.resolve().parent.is_dir():
        raise RirnError(f"there is no folder {options.json.parent} for --json; make it first")
    frames = options.save_frames
    if frames is not None and frames.exists() and not (frames.is_dir() and not any(frames.iterdir())):
        raise RirnError(f"{frames} is there already and not an empty folder; give a new one to --save-frames")
    model = load(options.model, device=_device(options.device))
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
        options.json.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _figures_parser() -> Parser:
    from rirn.figures import FIGURES

    parser = Parser(
        description="Draw the figures of the paper for trained models, with the numbers behind them as tables.",
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
        help="3: states and errors; 4: sums of the gates; 5 (and 7 to 10): crops; 6: blended features; reach: gradients into the "
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
    _add_blur(parser)
    add("--sequences", type=int, default=None, metavar="N", help="at most N sequences")
    add("--frames", type=int, default=30, metavar="N", help="at most the first N frames of each")
    add("--frame", type=int, default=None, metavar="N", help="show this frame; the middle one")
    add(
        "--crop",
        default=None,
        metavar="WxH+X+Y",
        help="part of the frame in figure 5; where the blur is worst",
    )
    add("--lags", type=int, default=20, metavar="K", help="how many frames back reach looks")
    add("--seed", type=int, default=0, help="of the random directions of reach")
    add("--out", type=Path, default=Path("figures"), metavar="DIR", help="folder for pictures and tables")
    add("--device", default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one")
    add("--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton")
    return parser


def _figures(options: Namespace) -> None:
    from rirn import ops
    from rirn.figures.command import run

    with ops.use_backend(options.backend):
        run(options, _device(options.device))


def _speed(options: Namespace) -> None:
    from rirn import ops
    from rirn.evaluation.speed import PAPER_FPS, added_time, format_ratios

    size = (options.height, options.width)
    with ops.use_backend(options.backend):
        ratios = [
            added_time(base, size=size, device=_device(options.device)) for base in options.speed or PAPER_FPS
        ]
    print(format_ratios(ratios, size))


def _data_parser() -> Parser:
    return Parser(description="Check data sets of blurry and sharp frames, or make one.")


def _data(options: Namespace) -> None:
    DATA_ACTIONS[options.action][1](options[options.action])


def _data_check_parser() -> Parser:
    parser = Parser(
        description="Say what is there of a data set, what is missing and what is broken.",
        epilog="examples:\n  rirn data check GOPRO_Large\n  rirn data check GOPRO_Large/test --blur blur --headers-only",
    )
    parser.add_argument("root", type=Path, metavar="DIR", help="a data set, a part of it, or one sequence")
    _add_blur(parser)
    parser.add_argument(
        "--headers-only", action="store_true", help="quicker, but files cut short are not seen"
    )
    parser.add_argument("--workers", type=int, default=_threads(), help="threads that decode images")
    return parser


def _add_blur(parser: Parser) -> None:
    parser.add_argument(
        "--blur",
        default=None,
        metavar="NAME",
        help="folder of blurry frames: blur_gamma, if there is one, or blur",
    )


def _data_check(options: Namespace) -> None:
    from rirn.data.check import check, format_report

    report = check(
        options.root, blur=options.blur, headers_only=options.headers_only, workers=options.workers
    )
    print(format_report(report))
    if report.problems:
        raise RirnError(
            f"{len(report.problems)} frames of {options.root} are broken; get them again or remove both halves"
        )


def _data_synth_parser() -> Parser:
    from rirn.synth import SynthConfig

    parser = Parser(
        description="Make blurry and sharp pairs from high-speed or ordinary footage, or from photos.",
        epilog="examples:\n"
        "  rirn data synth ride240fps.mp4 --out data/ride --window 13\n"
        "  rirn data synth holiday.mp4 --out data/holiday --method interpolate --subframes 8 --window 9\n"
        "  rirn data synth photos/ --out data/shaken --method shake --size [360,640] --shrink 2 --clips 3",
    )
    parser.add_argument(
        "sources",
        type=Path,
        nargs="+",
        metavar="SOURCE",
        help="videos, folders of frames, or photos to shake",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder for the data set")
    parser.add_argument("--workers", type=int, default=_threads(), help="threads for optical flow")
    parser.add_class_arguments(SynthConfig)
    return parser


def _data_synth(options: Namespace) -> None:
    from rirn.synth import MANIFEST, SynthConfig, synthesize

    settings = vars(_data_synth_parser().instantiate(options))
    sources, out, workers = (settings.pop(name) for name in ("sources", "out", "workers"))
    made = synthesize(sources, out, SynthConfig(**settings), workers=workers)["sequences"]
    print(f"{sum(s['pairs'] for s in made)} pairs in {len(made)} sequences; {out / MANIFEST} says how")


def _models_parser() -> Parser:
    parser = Parser(description="List the models: parameters, arithmetic, size of the state, delay.")
    parser.add_argument("--height", type=int, default=720, help="height of the frames, pixels")
    parser.add_argument("--width", type=int, default=1280, help="width of the frames, pixels")
    return parser


def _models(options: Namespace) -> None:
    from rirn.models import model_names, summary

    print(f"{'model':18s} {'parameters':>11s} {'GMACs':>9s} {'state MiB':>10s} {'delay':>6s}")
    for name in model_names():
        (row,) = summary([name], frame_size=(options.height, options.width))
        print(f"{row.name:18s} {row.parameters:11,d} {row.gmacs:9.2f} {row.state_mib:10.2f} {row.delay:6d}")
    print(
        f"GMACs and state for one {options.width}x{options.height} frame amid a video, float32; delay in frames"
    )


def _convert_parser() -> Parser:
    from rirn.models.convert import CHANNEL_ORDERS, KINDS

    parser = Parser(description="Turn a published checkpoint of the base networks into weights for rirn.")
    parser.add_argument("kind", choices=list(KINDS), help="what the checkpoint is of")
    parser.add_argument(
        "checkpoint", type=Path, help="file of torch.save from zzh-tech/ESTRNN or sczhou/STFAN"
    )
    parser.add_argument("out", type=Path, help="safetensors file to write")
    parser.add_argument("--channel_order", default="bgr", choices=list(CHANNEL_ORDERS), help="of its images")
    return parser


def _convert(options: Namespace) -> None:
    from rirn.models.convert import convert

    convert(options.kind, options.checkpoint, options.out, channel_order=options.channel_order)
    print(options.out)


def _export_parser() -> Parser:
    parser = Parser(
        description="Write one step of a model for programs without PyTorch.",
        epilog="examples:\n"
        "  rirn export --onnx rirn-small small.onnx --height 720 --width 1280\n"
        "  rirn export --onnx runs/mine/weights.safetensors mine.onnx",
    )
    parser.add_argument("--onnx", action="store_true", help="format of the file: ONNX, the only one there is")
    parser.add_argument(
        "model", help="weights: a name that comes with rirn, or a path; or an untrained model: its name"
    )
    parser.add_argument("out", type=Path, help="file to write, ends in .onnx")
    parser.add_argument("--height", type=int, default=720, help="height of the frames, pixels")
    parser.add_argument("--width", type=int, default=1280, help="width of the frames, pixels")
    return parser


def _export(options: Namespace) -> None:
    from rirn.export import export_onnx

    if not options.onnx:
        raise RirnError("say in which format to write; there is --onnx")
    for path in export_onnx(options.model, options.out, height=options.height, width=options.width):
        print(path)


def _bench_parser() -> Parser:
    return Parser(description="Time the fused ops against the eager and the compiled reference.")


def _bench(argv: Sequence[str]) -> int:
    from rirn.bench.__main__ import main as bench

    return bench(argv)


def _demo_parser() -> Parser:
    parser = Parser(description="Make a shaken clip with known truth, restore it, then restore a real video.")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for videos and pictures")
    parser.add_argument(
        "--clip", type=Path, default=None, help="the real video; without it only the first part runs"
    )
    parser.add_argument(
        "--model", default="rirn-small", help="weights: a name that comes with rirn, or a path"
    )
    return parser


def _demo(options: Namespace) -> None:
    from rirn.demo import run

    run(options.out, options.clip, options.model)


def _doctor_parser() -> Parser:
    parser = Parser(description="Say what is installed, what can run here, and why something cannot.")
    parser.add_argument("--json", action="store_true", help="for programs: the same facts, and more, as JSON")
    return parser


def _doctor(options: Namespace) -> None:
    from rirn import doctor

    facts = doctor.report()
    print(json.dumps(facts, indent=1) if options.json else doctor.format_report(facts))


DATA_ACTIONS: dict[str, tuple[Callable[[], Parser], Callable[[Namespace], None]]] = {
    "check": (_data_check_parser, _data_check),
    "synth": (_data_synth_parser, _data_synth),
}
COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Namespace], int | None]]] = {
    "deblur": (_deblur_parser, _deblur),
    "compare": (_compare_parser, _compare),
    "train": (_train_parser, _train),
    "table": (_table_parser, _table),
    "evaluate": (_evaluate_parser, _evaluate),
    "figures": (_figures_parser, _figures),
    "data": (_data_parser, _data),
    "models": (_models_parser, _models),
    "convert": (_convert_parser, _convert),
    "export": (_export_parser, _export),
    "bench": (_bench_parser, _bench),
    "demo": (_demo_parser, _demo),
    "doctor": (_doctor_parser, _doctor),
}

if __name__ == "__main__":
    sys.exit(main())
