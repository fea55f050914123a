"""The command line. Every error a person can cause is one sentence and a non-zero exit, without a traceback."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, set_parsing_settings

from rirn import __version__
from rirn.errors import RirnError
from rirn.training.config import TrainConfig

set_parsing_settings(docstring_parse_attribute_docstrings=True)  # the help texts of the fields of TrainConfig


class HelpFormatter(DefaultHelpFormatter):
    """Keeps the lines of the examples below the options."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


class Parser(ArgumentParser):
    """An argument parser that answers a mistake in one line, with the near match if an option is unknown."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, formatter_class=HelpFormatter, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> None:
        unknown = re.search(r"nrecognized arguments: --([\w.-]+)", message)
        if unknown:
            options = [o.lstrip("-") for a in self._actions for o in a.option_strings if o.startswith("--")]
            close = difflib.get_close_matches(unknown[1], options, n=1)
            message += f"; did you mean --{close[0]}?" if close else ""
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0, 1 after an error, 2 for a wrong command line, 130 after Ctrl-C."""
    parser = Parser(prog="rirn", description="Deblur video with recurrence-in-recurrence networks.")
    parser.add_argument("--version", action="version", version=f"rirn {__version__}")
    commands = parser.add_subcommands(title="commands", metavar="COMMAND")
    for name, (make, _) in COMMANDS.items():
        subparser = make()
        commands.add_subcommand(name, subparser, help=subparser.description)
        subparser.prog = f"rirn {name}"
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


def _device(name: str) -> str:
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _train_parser() -> Parser:
    parser = Parser(
        description="Train a model on folders of blurry and sharp frames.",
        epilog="examples:\n"
        "  rirn train --out runs/mine --data.train+=GOPRO_Large/train --data.val+=GOPRO_Large/test\n"
        "  rirn train --config mine.yaml --optim.lr 2e-4",
    )
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_class_arguments(TrainConfig)
    return parser


def _train(options: Namespace) -> None:
    from rirn.training import train

    options.pop("config", None)
    print(train(TrainConfig(**vars(_train_parser().instantiate(options)))))


def _evaluate_parser() -> Parser:
    parser = Parser(
        description="Score weights on folders of blurry and sharp frames: PSNR and SSIM of input and output."
    )
    parser.add_argument("data", type=Path, nargs="+", help="folders of sequences")
    parser.add_argument(
        "--model", default="rirn-small", help="weights: a name that comes with rirn, or a path"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ...; auto takes a GPU if there is one")
    parser.add_argument(
        "--backend", default="auto", help="form of the ops: auto, reference, cpu, cuda or triton"
    )
    parser.add_argument("--json", type=Path, default=None, help="write the scores to this file too")
    return parser


def _evaluate(options: Namespace) -> None:
    import dataclasses

    from rirn import load, ops
    from rirn.data import find_sequences
    from rirn.evaluation import evaluate, frame_mean

    model = load(options.model, device=_device(options.device))
    sequences = [sequence for folder in options.data for sequence in find_sequences(folder)]
    fields = ("psnr_in", "psnr_out", "ssim_in", "ssim_out")
    scores = []
    print(f"{'sequence':40s} frames  PSNR in    out   gain   SSIM in    out")
    with ops.use_backend(options.backend):
        for score in evaluate(model, sequences, with_ssim=True):
            scores.append(score)
            print(_row(score.sequence, score.frames, *(getattr(score, f) for f in fields)))
    print(
        _row("mean over all frames", sum(s.frames for s in scores), *(frame_mean(scores, f) for f in fields))
    )
    print(
        "PSNR in dB and SSIM (Gaussian 11x11, sigma 1.5) of RGB frames rounded to 8 bits, whole frame, mean over frames"
    )
    if options.json is not None:
        options.json.write_text(json.dumps([dataclasses.asdict(score) for score in scores], indent=1) + "\n")


def _row(name: str, frames: int, psnr_in: float, psnr_out: float, ssim_in: float, ssim_out: float) -> str:
    gain = psnr_out - psnr_in
    return (
        f"{name:40s} {frames:6d}  {psnr_in:7.2f} {psnr_out:6.2f} {gain:+6.2f}    {ssim_in:.4f} {ssim_out:.4f}"
    )


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
    return Parser(description="Say what is installed, what can run here, and why something cannot.")


def _doctor(options: Namespace) -> None:
    from rirn import doctor

    print(doctor.format_report(doctor.report()))


COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Namespace], int | None]]] = {
    "deblur": (_deblur_parser, _deblur),
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
    "models": (_models_parser, _models),
    "convert": (_convert_parser, _convert),
    "export": (_export_parser, _export),
    "bench": (_bench_parser, _bench),
    "demo": (_demo_parser, _demo),
    "doctor": (_doctor_parser, _doctor),
}

if __name__ == "__main__":
    sys.exit(main())
