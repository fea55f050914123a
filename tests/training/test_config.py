"""Settings: checked, saved, and shipped."""

import itertools

import pytest

from rirn import RirnError, create_model
from rirn.cli import COMMANDS, main
from rirn.models import model_names
from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig, train
from rirn.training.recipes import find_recipe, recipes
from rirn.training.schedule import learning_rate
from rirn.weights import shipped
from tests.training.runs import config

PAPER = {"gopro": (500, [300]), "reds": (200, [100]), "dvd": (500, [200, 400])}


def parse(*argv):
    """What the command line makes of some arguments."""
    parser = COMMANDS["train"][0]()
    options = parser.instantiate(parser.parse_args([str(a) for a in argv]))
    options.pop("config", None)
    return TrainConfig(**vars(options))


def test_learning_rate_rises_then_falls_to_zero():
    optim = OptimConfig(lr=1.0, steps=110, warmup=10)
    rates = [learning_rate(optim, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1
    assert rates[60] == pytest.approx(0.5) and rates[109] < 1e-3
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))


def test_annealed_learning_rate():
    optim = OptimConfig(lr=1.0, steps=10, schedule="anneal", anneal_at=[4, 8], anneal_factor=0.5)
    assert [learning_rate(optim, step) for step in (0, 3, 4, 7, 8, 9)] == [1, 1, 0.5, 0.5, 0.25, 0.25]


def test_epochs_become_steps():
    optim = OptimConfig(epochs=3, anneal_at=[2])
    found = optim.in_steps(101, DataConfig(train=[], batch=10, frames=12, chunk=6))
    assert (found.steps, found.anneal_at, found.epochs) == (60, [40], None)  # 30 batches of two steps
    assert OptimConfig(steps=7).in_steps(101, DataConfig(train=[])).steps == 7


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipes(name, tmp_path):
    found = parse("--config", name, "--out", tmp_path, "--data.train+=d", "--model.name", "rdbn+rirn")
    epochs, anneal_at = PAPER[name]
    optim = found.optim
    assert (optim.loss, optim.lr, optim.epochs, optim.schedule) == ("l1", 1e-4, epochs, "anneal")
    assert (optim.anneal_at, optim.anneal_factor, optim.clip_norm) == (anneal_at, 0.5, 20)
    assert (found.data.batch, found.data.crop, found.data.frames) == (16, 256, 12)
    assert (found.model.name, found.model.width, found.model.residual) == ("rdbn+rirn", 1, False)


def test_every_recipe_is_whole(tmp_path):
    assert set(recipes()) == {*PAPER, *(f"mini-{name}" for name in PAPER), *shipped()}
    for name in recipes():
        found = parse("--config", name, "--out", tmp_path, "--data.train+=d")
        assert found.model.name in model_names()
        if name.startswith("mini-"):
            assert found.optim.steps <= 300 and found.data.crop <= 64


def test_unknown_recipe_has_a_near_match(capsys, tmp_path):
    with pytest.raises(RirnError, match=r"no file or recipe 'goprp'; did you mean 'gopro'\?"):
        find_recipe("goprp")
    assert main(["train", "--config", "goprp", "--out", str(tmp_path)]) == 1
    assert "did you mean 'gopro'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("optm:\n  lr: 1\n", "optim.lr"),
        ("optim:\n  lrr: 1\n", "optim.lr"),
        ("data:\n  bach: 3\n", "data.batch"),
        ("sed: 1\n", "seed"),
    ],
)
def test_unknown_key_has_a_near_match(capsys, tmp_path, text, near):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(SystemExit):
        main(["train", "--config", str(file), "--out", str(tmp_path), "--data.train+=d"])
    err = capsys.readouterr().err
    assert f"did you mean {near}?" in err and file.name in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.yaml holds no settings"),
        ("- 3\n", "c.yaml holds no settings"),
        ("optim: 3\n", "optim must be a group of settings in the configuration; got 3"),
    ],
)
def test_files_that_are_no_settings_are_named(capsys, tmp_path, text, message):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    try:
        assert main(["train", "--config", str(file), "--out", str(tmp_path), "--data.train+=d"]) == 1
    except SystemExit as stopped:
        assert stopped.code == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err


def test_saved_settings_make_the_same_run(data, tmp_path):
    settings = config(data, tmp_path / "run", optim=OptimConfig(steps=1, anneal_at=[1]))
    settings.model.variant = "C1H2"
    train(settings)
    found = parse("--config", tmp_path / "run" / "config.yaml")
    assert found == settings
    changed = parse("--config", tmp_path / "run" / "config.yaml", "--optim.lr", "3e-4")
    assert changed.optim.lr == 3e-4 and changed.model == settings.model


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"save_every": 0}, "save_every must be positive"),
        ({"optim": OptimConfig(lr=-1)}, "optim.lr must be positive"),
        ({"optim": OptimConfig(steps=0)}, "optim.steps must be positive"),
        ({"optim": OptimConfig(epochs=0)}, "optim.epochs must be positive"),
        ({"optim": OptimConfig(ema=1.0)}, r"optim.ema must lie in \[0, 1\)"),
        ({"optim": OptimConfig(loss="l2")}, "optim.loss must be one of l1, psnr; got 'l2'"),
        ({"optim": OptimConfig(schedule="step")}, "must be one of cosine, anneal; got 'step'"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
        ({"workers": -1}, "data.workers must not be negative"),
        ({"cache_mib": -1}, "data.cache_mib must not be negative; got -1"),
        ({"optim": OptimConfig(warmup=-1)}, "optim.warmup must not be negative; got -1"),
        ({"seed": -1}, "seed must not be negative; got -1"),
        ({"hold_mib": -1}, "hold_mib must not be negative; got -1"),
        ({"frames": 6, "chunk": 4}, "data.chunk must divide data.frames, now 6; got 4"),
        ({"compile": True, "recompute": True}, "give compile or recompute, not both"),
    ],
)
def test_impossible_settings_are_named(data, tmp_path, change, message):
    with pytest.raises(RirnError, match=message):
        config(data, tmp_path, **change)


def test_chunks_must_outlast_the_delay(data, tmp_path):
    ahead = config(data, tmp_path, model=ModelConfig("strcnn", width=0.2), frames=6, chunk=2)
    with pytest.raises(RirnError, match="more than the 2 frames that strcnn looks ahead; got 2"):
        train(ahead)


def test_frames_around_reach_the_model():
    settings = ModelConfig("ifi-rnn+rirn", width=0.1, past=2, future=1)
    assert create_model(settings.name, **settings.arguments()).delay == 1
    assert "past" not in ModelConfig("gru").arguments()  # which has no such option


@pytest.mark.parametrize(
    "words", [["--data.train", "a"], ["--data.train+=a"], ["--data.train=[a]"], ["--data.train", "[a, b]"]]
)
def test_folders_are_given_in_any_spelling(words, tmp_path):
    found = parse("--out", tmp_path, *words).data
    assert [str(source.path) for source in found.sources] == (["a", "b"] if "b" in words[-1] else ["a"])
    assert not found.mixed
    words = [word.replace("train", "val") for word in words]
    watched = parse("--out", tmp_path, "--data.train", "t", *words).data.val
    assert [str(path) for path in watched] == (["a", "b"] if "b" in words[-1] else ["a"])


def test_what_a_command_line_does_not_say_of_a_model_is_left_to_the_weights_it_starts_from(tmp_path):
    from rirn.commands.train import make_parser

    words = ["--out", str(tmp_path), "--data.train+=d", "--model.blocks", "3"]
    given = make_parser().instantiate(make_parser().parse_args([*words, "--model.start", "rirn-tiny"])).model
    assert (given.name, given.width, given.residual, given.blocks) == (None, None, None, 3)
    plain = make_parser().instantiate(make_parser().parse_args(words))
    plain.pop("config")
    assert TrainConfig(**vars(plain)).model == ModelConfig(blocks=3)
    assert TrainConfig(tmp_path, DataConfig(["d"])).model == ModelConfig()
