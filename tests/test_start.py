"""Help, versions and plain mistakes are answered without importing torch, which takes seconds."""

import os
import subprocess
import sys

import pytest

import rirn
from rirn.cli import COMMANDS
from rirn.commands import convert
from rirn.weights.convert import CHANNEL_ORDERS, KINDS

QUICK = [
    [],
    ["-V"],
    ["--version"],
    ["--help"],
    *[[name, "--help"] for name in COMMANDS],
    ["data", "check", "--help"],
    ["data", "synth", "--help"],
]
MISTAKES = [
    ["deblr"],
    ["deblur", "none.mp4"],
    ["deblur", "none.mp4", "out.mp4"],
    ["deblur", "none.mp4", "out.mp4", "--tile", "100"],
    ["deblur", ".", "out.mp4", "--model", "none"],
    ["deblur", "none.mp4", "--benchmark"],
    ["compare", "none.mp4", "other.mp4"],
    ["train", "--out", "run", "--data.train+=none"],
    ["train", "--config", "none.yaml"],
    ["train", "--out", "run", "--optm.lr", "1"],
    ["train", "--out", "run", "--data.train+=none", "--optim.lr", "fast"],
    ["train", "--out", "run", "--data.train+=none", "--optim.loss", "l2"],
    ["train", "--out", "run", "--data.train+=none", "--precision", "fp8"],
    ["train", "--out", "run", "--data.train+=none", "--save_every", "0"],
    ["data", "synth", "none.mp4", "--out", "made", "--method", "blend"],
    ["table", "1", "--data", "none"],
    ["claims"],
    ["claims", "--data", "none"],
    ["evaluate", "--data", "none"],
    ["evaluate", "--data", ".", "--model", "none.safetensors"],
    ["figures", "4", "--data", "none"],
    ["data", "check", "none"],
    ["data", "synth", "none.mp4", "--out", "made"],
    ["models", "--height", "0"],
    ["convert", "stfan", "none.pth", "out.safetensors"],
    ["export", "--onnx", "none.safetensors", "out.onnx"],
    ["demo", "--clip", "none.mp4"],
    ["bench", "--from", "none.json"],
    ["bench", "--compare", "none.json"],
    ["bench", "--markdown", "none/table.md"],
    ["bench", "--dtype", "int8"],
    ["doctor", "--jsn"],
]
CODE = """
import sys
from rirn.cli import main
for words in {words}:
    try:
        status = main(words)
    except SystemExit as stopped:
        status = stopped.code
    assert bool(status) is {fails}, words
    heavy = {{"torch", "numpy", "av", "cv2", "PIL", "scipy", "skimage", "matplotlib"}} & set(sys.modules)
    assert not heavy, (words, heavy)
"""


@pytest.mark.parametrize(("lines", "fails"), [(QUICK, False), (MISTAKES, True)], ids=["help", "mistakes"])
def test_torch_is_not_imported(lines, fails, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(words=lines, fails=fails)],
        cwd=tmp_path,
        # Which the command line hands to what it starts, and other tests in this process may have given plugins.
        env={name: value for name, value in os.environ.items() if name != "RIRN_PLUGINS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_there_is_help(capsys):
    from rirn.cli import main

    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: rirn") and all(f"\n  {name} " in out for name in COMMANDS)


def test_names_of_the_package_are_there():
    for package in (rirn, rirn.video, rirn.data, rirn.weights, rirn.training):
        for name in package.__all__:
            assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'none'"):
        rirn.none  # noqa: B018


def test_what_the_parser_offers_to_convert_is_all_there_is():
    assert (tuple(KINDS), tuple(CHANNEL_ORDERS)) == (convert.KINDS, convert.CHANNEL_ORDERS)
