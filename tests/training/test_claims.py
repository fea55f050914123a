"""`rirn claims`: the same clips for every network, the same test sets each time, and a run that is cut goes on."""

import json

import numpy as np
import pytest
import yaml

from rirn import RirnError
from rirn.cli import main
from rirn.data import MixedClips, find_sequences, read_image, write_png, write_sequence
from rirn.data.sources import mean_light
from rirn.models import create_model
from rirn.training import claims, testsets
from rirn.training.claims import TRIALS, Study, Trained, plan
from rirn.training.learner import Learner
from rirn.training.recipes import find_recipe
from rirn.training.results import read_results, settings
from tests.training.runs import rows


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data root with every folder, of noise."""
    root = tmp_path_factory.mktemp("root")
    for seed, split in enumerate(("train", "test")):
        pairs = (tuple(noise(2, 32, 36, 3, seed=9 * seed + i)) for i in range(4))
        write_sequence(root / "GOPRO_Large" / split / f"scene-{split}", pairs)
        footage = root / "GOPRO_Large_all" / split / "video"
        footage.mkdir(parents=True)
        for i in range(5):
            write_png(footage / f"{i}.png", noise(32, 36, 3, seed=100 + 9 * seed + i))
    for seed, folder in enumerate(("photos", "photos-test")):
        (root / folder).mkdir()
        write_png(root / folder / "0.png", noise(64, 64, 3, seed=200 + seed))
    return root


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The recipe, the plan and the test sets, made so small that they take seconds."""
    recipe = yaml.safe_load(find_recipe("claims").read_text(encoding="utf-8"))
    recipe["model"]["width"] = 0.1
    recipe["data"] |= {"frames": 4, "chunk": 2, "crop": 16, "batch": 2, "cache_mib": 4}
    recipe["optim"] |= {"lr": 0.01, "warmup": 0}
    recipe |= {"save_every": 1, "val_every": 2}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(claims, "RECIPE", str(tmp_path / "tiny.yaml"))
    monkeypatch.setattr(claims, "STUDIES", (Study(("ifi-rnn", "ifi-rnn+rirn"), 1, 4),))
    monkeypatch.setattr(testsets, "FRAMES", 4)
    monkeypatch.setattr(testsets, "SIDE", 16)
    monkeypatch.setattr(testsets, "CLIPS", {"footage": 1, "photo": 1})


def start(root, out, *more):
    return main(["claims", "--data", str(root), "--out", str(out), "--device", "cpu", *more])


def lines(out):
    return read_results(out / "results.jsonl", Trained.from_line)


def cut_at(monkeypatch, step):
    """Let the program be stopped in that step of any training, counted over all."""
    count, whole = [0], Learner.step

    def failing(self, piece, number):
        count[0] += 1
        if count[0] == step:
            raise KeyboardInterrupt
        return whole(self, piece, number)

    monkeypatch.setattr(Learner, "step", failing)


def test_plan(tmp_path):
    configs = [run.config for run in plan(tmp_path, tmp_path / "out")]
    order = [(c.model.name, c.seed, c.optim.steps) for c in configs]
    sextet = ["ifi-rnn", *(f"ifi-rnn+{a}" for a in ("control", "irm", "atb", "dtb", "rirn"))]
    assert order[:18] == [(name, seed, 10_000) for seed in range(3) for name in sextet]
    assert order[18:24] == [(f"gru{a}", seed, 3_000) for seed in range(2) for a in ("", "+control", "+rirn")]
    assert len(order) == len(set(order)) == 38 and order[-1] == ("rdbn+rirn", 1, 3_000)
    for config in configs:
        create_model(config.model.name, **config.model.arguments())
        assert config.model.residual and config.model.half_resolution and config.model.width == 0.5
        assert (config.model.blocks == 3) == config.model.name.startswith("rdbn")
        assert config.data == configs[0].data and config.optim.lr == configs[0].optim.lr
    assert len({c.out for c in configs}) == 38


def test_trials_differ_in_what_they_say(tmp_path):
    """They come last, in folders and under names of their own."""
    runs = plan(tmp_path, tmp_path / "out", trials=True)
    trials = runs[38:]
    assert [run.network for run in trials] == [trial.label for trial in TRIALS]
    assert len({run.network for run in runs}) == 16 + len(TRIALS) and len(
        {r.config.out for r in runs}
    ) == len(runs)
    as_it_is = {(run.network, run.config.seed): settings(run.config) for run in runs[:38]}
    for run, trial in zip(trials, TRIALS, strict=True):
        plain, changed = as_it_is[trial.network, run.config.seed], settings(run.config)
        differing = {
            f"{group}.{name}"
            for group in ("model", "optim", "data")
            for name, value in changed[group].items()
            if plain[group][name] != value
        }
        wanted = {f"data.{n}" for n in trial.data} | {f"optim.{n}" for n in trial.optim}
        assert differing == wanted | ({"model.options"} if trial.options else set())
        assert run.config.data.batch * run.config.data.chunk == 24  # frames of a step
        create_model(run.config.model.name, **run.config.model.arguments())


def test_all_of_it_and_a_cut(root, tiny, tmp_path, monkeypatch, capsys):
    """A program that is stopped in the middle of the second training ends with the lines of one that was not."""
    assert start(root, tmp_path / "whole", "--markdown", str(tmp_path / "page.md")) == 0
    whole = lines(tmp_path / "whole")
    assert [(r.network, r.seed, r.steps) for r in whole] == [("ifi-rnn", 0, 4), ("ifi-rnn+rirn", 0, 4)]
    scene = whole[1].scores["real"]["scene-test"]
    assert scene.restored != scene.blurry
    assert "not decided at this size" in (tmp_path / "page.md").read_text()
    with monkeypatch.context() as patch:
        cut_at(patch, 4 + 3)
        assert start(root, tmp_path / "cut") == 130
    assert len(lines(tmp_path / "cut")) == 1
    capsys.readouterr()
    assert start(root, tmp_path / "cut", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "scored  ifi-rnn, seed 0, 4 steps",
        "begun   ifi-rnn+rirn, seed 0, 4 steps",
    ]
    assert start(root, tmp_path / "cut") == 0
    for one, other in zip(lines(tmp_path / "cut"), whole, strict=True):
        assert one.scores == other.scores and one.settings == other.settings and one.curve == other.curve
    log = (tmp_path / "cut" / "ifi-rnn+rirn" / "seed-0" / "log.jsonl").read_text()
    assert [json.loads(line)["step"] for line in log.splitlines() if "grad_norm" in line] == [0, 1, 2, 3]
    assert start(root, tmp_path / "cut") == 0 and len(lines(tmp_path / "cut")) == 2


def test_several_processes_are_refused(root, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert start(root, tmp_path) == 1
    assert "several trainings do not run under torchrun" in capsys.readouterr().err


def test_a_line_holds_every_frame_and_the_curve(root, tiny, tmp_path):
    start(root, tmp_path)
    text = (tmp_path / "results.jsonl").read_text()
    assert "Infinity" not in text and "NaN" not in text and str(root) not in text
    line = lines(tmp_path)[0]
    assert {part: list(found) for part, found in line.scores.items()} == {
        "real": ["scene-test"],
        "steady": ["footage-0", "photo-0"],
        "changing": ["footage-0", "photo-0"],
    }
    frames = [s for found in line.scores.values() for s in found.values()]
    assert all(len(s.blurry) == len(s.restored) == 4 for s in frames)
    assert None in line.scores["changing"]["footage-0"].blurry  # a sharp frame
    assert line.curve["step"] == [2, 4] and {len(values) for values in line.curve.values()} == {2}
    assert set(line.curve) == {"step", "real"} | {
        f"{e}-{k}-0" for e in testsets.KINDS for k in testsets.CLIPS
    }
    assert line.settings["data"]["shutter"]["changing_rate"] == 0.75
    assert line.settings["data"]["train"][0] == {"path": "GOPRO_Large/train", "kind": "pairs", "share": 0.5}
    logged = sum(row.get("seconds", 0) for row in rows(tmp_path / "ifi-rnn" / "seed-0"))
    assert line.machine["versions"]["torch"] and line.seconds == round(logged, 1)


def test_every_network_learns_from_the_same_clips(root, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "STUDIES", (Study(("ifi-rnn", "rdbn+irm", "lstm+rirn"), 2, 4),))
    configs = [run.config for run in plan(root, tmp_path, device="cpu")]
    testsets.write_test_sets(root, tmp_path)
    seen, read = [], MixedClips.__getitem__

    def watched(self, number):
        clips = read(self, number)
        seen[-1].append((number, *(clip.numpy().tobytes() for clip in clips)))
        return clips

    monkeypatch.setattr(MixedClips, "__getitem__", watched)
    for config in configs:
        seen.append([])
        claims.train(config)
    assert len(seen[0]) >= 4 and seen[0] == seen[1] == seen[2] and seen[3] == seen[4] == seen[5]
    assert seen[0] != seen[3]


def test_test_sets_are_the_same_each_time(root, tiny, tmp_path):
    for out in (tmp_path / "a", tmp_path / "b"):
        testsets.write_test_sets(root, out)
    files = sorted((tmp_path / "a").rglob("*.png"))
    assert len(files) == 2 * 4 * (2 * 2 + 2 * 2 + 1)
    for file in files:
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    before = [file.stat().st_mtime_ns for file in files]
    testsets.write_test_sets(root, tmp_path / "a")
    assert [file.stat().st_mtime_ns for file in files] == before
    (tmp_path / "b" / testsets.MANIFEST).unlink()  # stopped before the end: made anew
    files[0].unlink()
    testsets.write_test_sets(root, tmp_path / "b")
    monkey = tmp_path / "other"
    monkey.mkdir()
    for folder in ("GOPRO_Large", "GOPRO_Large_all", "photos"):
        (monkey / folder).symlink_to(root / folder)
    (monkey / "photos-test").mkdir()
    write_png(monkey / "photos-test" / "1.png", noise(64, 64, 3))
    with pytest.raises(RirnError, match=r"was made of other files .*; give another --out"):
        testsets.write_test_sets(monkey, tmp_path / "b")


def test_steady_and_changing_differ_in_the_exposures_alone(root, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(testsets, "FRAMES", 12)
    testsets.write_test_sets(root, tmp_path)
    steady, changing = (find_sequences(tmp_path / "test" / kind) for kind in testsets.KINDS)
    for one, other in zip(steady, changing, strict=True):
        truth = [read_image(path) for path in one.sharp]
        assert all(
            np.array_equal(image, read_image(path)) for image, path in zip(truth, other.sharp, strict=True)
        )
        sharp = [np.array_equal(read_image(b), t) for b, t in zip(other.blurry, truth, strict=True)]
        assert any(sharp) and not all(sharp)
        assert not any(np.array_equal(read_image(b), t) for b, t in zip(one.blurry, truth, strict=True))


def test_exposures_are_means_of_light_around_their_middle():
    frames = noise(9, 2, 2, 3)
    blurry, sharp = testsets._expose(frames.__getitem__, 4, 5)
    assert np.array_equal(sharp, frames[4]) and np.array_equal(blurry, mean_light(frames[2:7]))
    assert all(np.array_equal(image, frames[4]) for image in testsets._expose(frames.__getitem__, 4, 1))


def test_windows():
    rng = np.random.default_rng(0)
    lone, runs = 0, []
    for _ in range(200):
        (steady,) = set(testsets.windows(rng, "steady"))
        counts = testsets.windows(rng, "changing")
        assert 7 <= steady <= 15 and steady % 2 == 1 and len(counts) == testsets.FRAMES
        assert {count for count in counts if count > 1} <= {7, 9, 11, 13, 15}
        places = [i for i, count in enumerate(counts) if count == 1]
        runs += np.diff(places).tolist()
        lone += places[0] == 0
    assert set(runs) == set(range(2, 11)) and 0 < lone < 200
    assert 3 in testsets.windows(rng, "changing", sharp=3)


def test_one_that_fails_does_not_stop_the_others(root, tiny, tmp_path, monkeypatch, capsys):
    whole = claims.train

    def train(config):
        if config.model.name == "ifi-rnn":
            raise RirnError("the gradient was not finite")
        return whole(config)

    with monkeypatch.context() as patch:
        patch.setattr(claims, "train", train)
        assert start(root, tmp_path) == 1
    assert [r.network for r in lines(tmp_path)] == ["ifi-rnn+rirn"]
    assert "1 of 2 trainings failed" in capsys.readouterr().err
    assert start(root, tmp_path) == 0 and len(lines(tmp_path)) == 2


@pytest.mark.parametrize(
    "folder",
    [
        "GOPRO_Large/train",
        "GOPRO_Large_all/train",
        "photos",
        "GOPRO_Large/test",
        "GOPRO_Large_all/test",
        "photos-test",
    ],
)
def test_a_folder_that_is_missing_is_named(root, tiny, tmp_path, capsys, folder):
    data = tmp_path / "data"
    for path in ("GOPRO_Large/train", "GOPRO_Large_all/train", "photos", *map(str, claims.FOLDERS)):
        if path != folder:
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).symlink_to(root / path)
    assert start(data, tmp_path / "out") == 1
    assert capsys.readouterr().err == (
        f"rirn claims: there is no folder {data / folder}; `rirn claims` needs it, see docs/training.md\n"
    )


def test_mistakes(root, tiny, tmp_path, capsys):
    assert main(["claims"]) == 1
    assert "say where the data are with --data DIR" in capsys.readouterr().err
    (tmp_path / "results.jsonl").write_text('{"network": "gru"}\n')
    assert start(root, tmp_path) == 1
    assert "line 1 of" in capsys.readouterr().err
