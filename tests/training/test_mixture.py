"""Training on several sources in shares."""

import copy

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from rirn import RirnError
from rirn.cli import main
from rirn.data import Camera, MixedClips, Source, write_png
from rirn.training import DataConfig, train
from rirn.training.checkpoint import Checkpoints, read_checkpoint
from rirn.training.results import settings, whole_settings
from tests.training.runs import config, losses


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(2):
        photo = np.random.default_rng(i).integers(0, 255, (20, 24, 3)).astype(np.uint8)
        write_png(folder / f"{i}.png", photo.repeat(4, 0).repeat(4, 1))
    return folder


def mixed(data, photos, out, camera=None, share=1.0, **settings):
    settings = config(data, out, **settings)
    settings.data.train = [Source(data, "pairs", share), Source(data, "sharp"), Source(photos, "photos")]
    settings.data.camera = camera
    return settings


def test_a_run_goes_on_bit_for_bit(data, photos, tmp_path):
    camera = Camera(tone_rate=0.5, noise_rate=0.5)
    whole = train(mixed(data, photos, tmp_path / "whole", camera))
    half = mixed(data, photos, tmp_path / "half", camera, save_every=1)
    steps = half.optim.steps
    read, count = MixedClips.__getitem__, [0]

    def failing(self, number):
        count[0] += 1
        if count[0] > half.data.batch * (steps // 2) + 1:
            raise KeyboardInterrupt
        return read(self, number)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MixedClips, "__getitem__", failing)
        train(half)
    a, b = load_file(whole), load_file(train(half))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert losses(tmp_path / "half") == losses(tmp_path / "whole")


def test_another_mixture_is_another_run(data, photos, tmp_path):
    train(mixed(data, photos, tmp_path, save_every=1))
    for other in ({"share": 2.0}, {"camera": Camera()}):
        with pytest.raises(RirnError, match="belongs to other settings"):
            train(mixed(data, photos, tmp_path, **other))


def test_a_checkpoint_without_options_added_since_is_resumed(data, photos, tmp_path):
    """Such as defocus; but one that was given then has to be given now."""
    train(mixed(data, photos, tmp_path, Camera(), save_every=1))
    newest = Checkpoints(tmp_path).paths()[-1]
    content = read_checkpoint(newest)
    camera = content["identity"][2]["mixture"]["camera"]
    assert camera.pop("defocus_rate") == 0 and camera.pop("defocus") == [0.5, 4.0]
    torch.save(content, newest)
    train(mixed(data, photos, tmp_path, Camera(), save_every=1))
    for other in (Camera(defocus_rate=0.5), Camera(noise_rate=0.5), None):
        with pytest.raises(RirnError, match=r"other settings: data\.mixture"):
            train(mixed(data, photos, tmp_path, other, save_every=1))


def test_results_without_options_added_since_count_still(data, photos, tmp_path):
    now = settings(mixed(data, photos, tmp_path, Camera()))
    before = copy.deepcopy(now)
    assert (
        before["data"]["camera"].pop("defocus_rate") == 0 and before["data"]["scene"].pop("defocus_rate") == 0
    )
    assert before != now == whole_settings(before)
    plain = settings(mixed(data, photos, tmp_path))
    assert plain["data"]["camera"] is None and whole_settings(plain) == plain


def test_a_recipe_names_sources_below_a_folder(data, photos, tmp_path, capsys):
    recipe = {
        "model": {"name": "ifi-rnn", "width": 0.1, "residual": True},
        "data": {
            "train": [
                {"path": data.name, "kind": "pairs", "share": 0.7},
                {"path": str(photos), "kind": "photos", "share": 0.3},
            ],
            "camera": {"noise_rate": 1.0, "scale": [0.9, 1.0]},
            "scene": {"layers": [1, 2]},
            "frames": 2,
            "crop": 32,
            "batch": 2,
            "workers": 0,
        },
        "optim": {"steps": 2},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    command = [
        "train",
        "--config",
        str(file),
        "--data.root",
        str(data.parent),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]
    assert main(command) == 0
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["data"]["train"] == recipe["data"]["train"]
    assert saved["data"]["camera"]["scale"] == [0.9, 1.0] and saved["data"]["root"] == str(data.parent)
    again = ["train", "--config", str(tmp_path / "out" / "config.yaml"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    assert losses(tmp_path / "again") == losses(tmp_path / "out")


def test_paths_below_the_root(tmp_path):
    data = DataConfig(train=[tmp_path / "a", Source("b", "sharp")], root=tmp_path / "r")
    assert [source.path for source in data.sources] == [tmp_path / "a", tmp_path / "r" / "b"]
    assert data.mixed and not DataConfig(train=[tmp_path]).mixed


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "x", "kind": "films"}, "films"),
        ({"path": "x", "share": -1}, "share of a source must be positive"),
        ({"path": "x", "weight": 2}, "has the unknown setting 'weight'; its settings are path, kind, share"),
        ({"kind": "sharp"}, "has no path; its settings are path, kind, share"),
        ({"path": "x", "share": "many"}, "cannot be understood"),
    ],
)
def test_a_wrong_source_is_one_sentence(tmp_path, capsys, entry, message):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump({"data": {"train": [entry]}}))
    try:
        assert main(["train", "--config", str(file), "--out", str(tmp_path / "out")]) != 0
    except SystemExit as ended:  # of the parser
        assert ended.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
