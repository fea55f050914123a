"""What needs a package that not every machine has: videos need PyAV, all else does not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rirn.data import Shake, shake_photo, write_png, write_sequence
from tests.packaging.installs import ROOT

MISSING = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""
PYAV = "Videos are read and written with PyAV, which does not import (No module named 'av'): run `pip install 'av>=18'`"


def without(*names: str, run: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run Python code where packages are missing."""
    code = MISSING.format(names=set(names)) + run
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        write_png(folder / f"{i}.png", np.full((24, 32, 3), 40 * i, np.uint8))
    return folder


def test_ops_networks_and_streams_need_no_pyav(tmp_path):
    code = """
import numpy as np, torch
import rirn, rirn.bench.__main__, rirn.doctor, rirn.export, rirn.figures, rirn.synth, rirn.video
from rirn.ops import atb_blend
x = torch.rand(4, 1, 2, 8, 8, requires_grad=True)
atb_blend(*x.unbind(0)).sum().backward()
rirn.create_model("ifi-rnn+rirn", width=0.1)(torch.rand(1, 2, 3, 16, 16)).sum().backward()
print(sum(1 for _ in rirn.stream((np.zeros((24, 32, 3), np.uint8) for _ in range(3)), "rirn-tiny")))
assert "av" not in sys.modules
"""
    done = without("av", run=code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_nor_does_a_training(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    pairs = shake_photo(
        photo, np.random.default_rng(0), size=(48, 56), frames=6, shake=Shake(tremor=3, drift=1)
    )
    write_sequence(tmp_path / "data" / "s0", pairs)
    code = f"""
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from rirn.training import OptimConfig, train
from tests.training.runs import config
train(config(Path("data"), Path("run"), optim=OptimConfig(steps=1, warmup=0)))
"""
    done = without("av", run=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_folders_of_images_need_no_pyav(photos, tmp_path):
    code = "from rirn.cli import main\nsys.exit(main(['deblur', 'photos', 'sharp', '--model', 'rirn-tiny']))"
    done = without("av", run=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "sharp").iterdir())) == 3


def test_videos_say_what_they_need(photos, tmp_path):
    """One sentence for each command, and nothing is left behind."""
    (tmp_path / "clip.mp4").write_bytes(bytes(64))
    before = set(tmp_path.rglob("*"))
    commands = [
        ["deblur", "clip.mp4", "sharp.mp4"],
        ["deblur", "clip.mp4", "--benchmark"],
        ["deblur", photos.name, "sharp.mp4"],
        ["compare", "clip.mp4", "clip.mp4"],
        ["data", "synth", "clip.mp4", "--out", "made"],
    ]
    code = f"from rirn.cli import main\nprint(*(main(argv) for argv in {commands}))"
    done = without("av", run=code, cwd=tmp_path)
    assert done.stdout == "1 1 1 1 1\n", done.stderr
    sentences = done.stderr.splitlines()
    assert len(sentences) == len(commands) and all(PYAV in sentence for sentence in sentences)
    assert set(tmp_path.rglob("*")) == before
