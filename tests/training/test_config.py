"""Settings: checked, saved, and shipped."""

import itertools

import pytest

from rirn import RirnError, create_model
from rirn.cli import COMMANDS, main
from rirn.data import Camera
from rirn.models import model_names
from rirn.training import DataConfig, ModelConfig, OptimConfig, TrainConfig, train
from rirn.training.recipes import find_recipe, recipes
from rirn.training.schedule import learning_rate
from rirn.weights import shipped
from tests.training.runs import config

PAPER = {"gopro": (500, [300]), "reds": (200, [100]), "dvd": (500, [200, 400])}


def parse(*argv):
    """What the command line makes of some arguments."""
    return COMMANDS["train"][0]().parse_args([str(a) for a in argv]).settings()


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
    assert set(recipes()) == {*PAPER, *(f"mini-{name}" for name in PAPER), *shipped(), "claims"}
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
        ("optm:\n  lr: 1\n", "optim"),
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
        ("[\n", "c.yaml is no YAML"),
        ("seed: 2024-13-45\n", "c.yaml is no YAML (month must be in 1..12"),
        ("model: &m\n  options: *m\n", "c.yaml refers to itself"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "\n".join(
                f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]"
                for old, new in itertools.pairwise("abcdefghi")
            ),
            "c.yaml refers to itself, or has more than 100000 values",
        ),
        ("optim: 3\n", "c.yaml, optim must be a group of settings; got 3"),
        ("optim:\n", "c.yaml, optim is empty; give its settings, or leave it out"),
        ("optim:\n  lr: fast\n", "c.yaml, optim.lr must be a number; got 'fast'"),
        ("optim:\n  steps: 1.5\n", "c.yaml, optim.steps must be a whole number; got 1.5"),
        ("compile: 1\n", "c.yaml, compile must be true or false; got 1"),
        ("precision: fp8\n", "c.yaml, precision must be one of fp32, bf16, fp16, fast; got 'fp8'"),
        ("data:\n  chunk: x\n", "c.yaml, data.chunk must be a whole number or null; got 'x'"),
        (
            "data:\n  scene: {layers: [1]}\n",
            "data.scene.layers must be a list of 2 values, each a whole number; got [1]",
        ),
        ("data:\n  val: [[a]]\n", "data.val must be a path; got ['a']"),
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
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16, fast"),
        ({"workers": -1}, "data.workers must not be negative"),
        ({"optim": OptimConfig(rates={"irm": -3.0})}, "optim.rates.irm must not be negative; got -3.0"),
        (
            {"optim": OptimConfig(rates={"irm": float("nan")})},
            "optim.rates.irm must not be negative; got nan",
        ),
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
    ("words", "paths"),
    [
        (["--data.train", "a"], ["a"]),
        (["--data.train+=a"], ["a"]),
        (["--data.train=[a]"], ["a"]),
        (["--data.train", "[a, b]"], ["a", "b"]),
        (["--data.train", "a", "--data.train+=[b, c]", "--data.train+=d"], ["a", "b", "c", "d"]),
        (
            ["--data.train+=2024-01-01", "--data.train+=12", "--data.train+=null"],
            ["2024-01-01", "12", "null"],
        ),
        (["--data.train+=[Title] of a: video"], ["[Title] of a: video"]),
    ],
)
def test_folders_are_given_in_any_spelling(words, paths, tmp_path):
    found = parse("--out", tmp_path, *words).data
    assert [str(source.path) for source in found.sources] == paths
    assert not found.mixed
    words = [word.replace("train", "val") for word in words]
    watched = parse("--out", tmp_path, "--data.train", "t", *words).data.val
    assert [str(path) for path in watched] == paths


def test_a_source_with_its_kind_and_share(tmp_path):
    found = parse(
        "--out", tmp_path, "--data.train+=a", "--data.train+={path: b, kind: sharp, share: 2e-1}"
    ).data
    assert [(str(s.path), s.kind, s.share) for s in found.sources] == [("a", "pairs", 1), ("b", "sharp", 0.2)]


def test_what_is_typed_overrides_files_and_these_the_defaults(tmp_path):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(
        "\ufeffoptim: {lr: 1e-3, steps: 7}\ndata: {val: [a], camera: {crf: [20, 30]}}\nkeep: 5\n"
    )
    second.write_text("optim: {steps: 8}\nmodel: {variant: null, options: {depth: 2}}\n")
    typed = ["--keep", "6", "--data.val+=b", "--data.camera.jpeg_rate", "0.5", "--model.options.wide=true"]
    found = parse(*typed, "--config", first, "--config", second, "--out", tmp_path, "--data.train+=d")
    assert (found.optim.lr, found.optim.steps, found.keep, found.save_every) == (1e-3, 8, 6, 500)
    assert [str(path) for path in found.data.val] == ["a", "b"]
    assert found.data.camera == Camera(crf=(20, 30), jpeg_rate=0.5)
    assert found.model.options == {"depth": 2, "wide": True}
    without = parse(*typed, "--config", first, "--data.camera=null", "--out", tmp_path, "--data.train+=d")
    assert without.data.camera is None


def test_every_setting_is_explained(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for words in (
        "--data.val [...], --data.val+ [...] A folder of sequences to watch, or a list of them; none of their frames is "
        "learnt from. --data.frames",
        "--precision {fp32,bf16,fp16,fast} bf16, fp16: autocast",
        "--compile {true,false} Train through torch.compile. (default: false)",
        "--data.camera.crf [...] Its constant rate factor",
        "--model.variant TEXT CxHy of IFI-RNN. --model.blocks",
    ):
        assert words in text


def test_what_a_command_line_does_not_say_of_a_model_is_left_to_the_weights_it_starts_from(tmp_path):
    given = parse(
        "--out", tmp_path, "--data.train+=d", "--model.blocks", "3", "--model.start", "rirn-tiny"
    ).model
    assert (given.name, given.width, given.residual, given.blocks) == (None, None, None, 3)
    assert parse("--out", tmp_path, "--data.train+=d", "--model.blocks", "3").model == ModelConfig(blocks=3)
    assert TrainConfig(tmp_path, DataConfig(["d"])).model == ModelConfig()


@pytest.mark.parametrize("words", [("x",), ("[1, 2]",), ("true",)], ids=str)
def test_a_factor_on_a_rate_is_a_number(tmp_path, capsys, words):
    """It is one of the settings whose names are free, and has a type all the same."""
    settings = parse(
        "--out", tmp_path, "--data.train+=d", "--optim.rates.irm", "3", "--model.options.depth", "two"
    )
    assert settings.optim.rates == {"irm": 3.0} and settings.model.options == {"depth": "two"}
    with pytest.raises(SystemExit) as refused:
        parse("--out", tmp_path, "--data.train+=d", "--optim.rates.irm", *words)
    assert refused.value.code == 2
    assert "optim.rates.irm must be a number; got" in capsys.readouterr().err
