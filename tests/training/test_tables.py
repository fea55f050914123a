"""The paper's tables: every row is planned, trained once, scored once, and printed beside the paper's figures."""

import dataclasses
import json
import shlex

import numpy as np
import pytest

from rirn import RirnError, create_model, save_weights
from rirn.cli import main
from rirn.data import Shake, find_sequences, read_image, write_sequence
from rirn.evaluation.paper import TABLES
from rirn.models import model_names
from rirn.training import photos, tables
from rirn.training.config import ModelConfig, OptimConfig
from rirn.training.results import (
    ALL,
    Line,
    Result,
    Scores,
    append_result,
    exclusively,
    progress,
    read_results,
    table_text,
)

# From the paper's text, not its tables: gains of RIRN in dB on DVD, GOPRO and REDS.
GAINS = {
    "ifi-rnn": (0.44, 0.84, 1.07),
    "strcnn": (1.02, 0.15, 0.53),
    "stfan": (0.10, 0.47, 0.18),
    "rdbn": (0.39, 0.35, 0.42),
    "gru": (1.05, 1.25, 1.91),
    "lstm": (2.22, 2.02, 2.25),
}


def test_the_papers_figures_are_consistent():
    rows = {row.model: row for row in TABLES[3].rows}
    for base, gains in GAINS.items():
        found = [
            rows[f"{base}+rirn"].scores[d][0] - rows[base].scores[d][0] for d in ("DVD", "GOPRO", "REDS")
        ]
        assert found == pytest.approx(gains, abs=1e-6)
    for number, base in ((1, "rdbn"), (2, "ifi-rnn")):  # the same networks, so the same figures
        assert all(TABLES[number].rows[0].scores[d] == rows[base].scores[d] for d in ("GOPRO", "REDS"))
    rows = [row for table in TABLES.values() for row in table.all_rows(controls=True)]
    assert {row.model for row in rows} <= set(model_names())


def fake(monkeypatch, trained):
    """Trainings that write untrained weights."""

    def train(config):
        trained.append(config)
        config.out.mkdir(parents=True)
        options = {"width": 0.2, "residual": True}
        save_weights(create_model(config.model.name, **options), config.out / "weights.safetensors")
        log = [{"settings": config.plain(), "commit": "abc", "threads": 1}, {"step": 0, "seconds": 1.5}]
        (config.out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))

    monkeypatch.setattr(tables, "train", train)
    monkeypatch.setattr(tables, "write_photo_data", small_data)


def small_data(folder):
    for sequence in ("train/steady/a", "test/steady/b", "test/abrupt/b"):
        if not (folder / sequence).exists():
            rng = np.random.default_rng(list(sequence.encode()))
            pairs = [tuple(rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)) for _ in range(3)]
            write_sequence(folder / sequence, pairs)


def test_mini_table_from_nothing(monkeypatch, tmp_path, capsys):
    pytest.importorskip("skimage")
    trained = []
    fake(monkeypatch, trained)
    argv = ["table", "2", "--mini", "--seeds", "2", "--out", str(tmp_path)]
    assert main([*argv, "--no-train"]) == 0
    empty = capsys.readouterr().out
    assert not trained and "28.65" in empty and "+0.35" in empty
    assert main([*argv, "--dry-run", "--device", "cpu", "--backend", "reference"]) == 0
    planned = [line for line in capsys.readouterr().out.splitlines() if "rirn train" in line]
    assert len(planned) == 6 and all(line.startswith("new ") for line in planned)
    assert all("--device=cpu --backend=reference" in line for line in planned)
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert [(c.model.name, c.seed) for c in trained] == [
        (name, seed) for seed in (0, 1) for name in ("ifi-rnn", "ifi-rnn+dtb", "ifi-rnn+atb")
    ]
    results = read_results(tmp_path / "results.jsonl")
    assert len(results) == 6 and all(r.seconds == 1.5 and r.machine["commit"] == "abc" for r in results)
    # An untrained residual network returns its input. Parts have as many frames, so that their means' mean is that of all.
    for result in results:
        assert set(result.scores) == {ALL, "steady", "abrupt"}
        assert all(s.psnr_in == s.psnr_out for s in result.scores.values())
        halves = [result.scores[part].psnr_in for part in ("steady", "abrupt")]
        assert np.mean(halves) == pytest.approx(result.scores[ALL].psnr_in) and halves[0] != halves[1]
    assert main([*argv, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("scored ") == 6
    assert main(argv) == 0
    assert capsys.readouterr().out.endswith(text[text.index("Table 2") :]) and len(trained) == 6
    # Other settings are another row; the committed lines alone print the table, on a page too.
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- rirn table 2 -->\n<!-- /rirn table 2 -->\nbelow\n")
    elsewhere = ["--out", str(tmp_path / "new"), "--results", str(tmp_path / "results.jsonl")]
    assert (
        main(["table", "2", "--mini", "--seeds", "3", *elsewhere, "--no-train", "--markdown", str(page)]) == 0
    )
    assert capsys.readouterr().out.endswith(text[text.index("Table 2") :])
    assert page.read_text().count("| ifi-rnn+atb | 2 |") == 3 and page.read_text().endswith("below\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (None, r"seed-0/weights.safetensors was trained with optim.lr 0.5, where the table has"),
        (lambda log: log.unlink(), r"has no whole log log.jsonl beside it"),
        (lambda log: log.write_text('{"settings": {}}\n'), r"lacks the setting 'data'"),
    ],
)
def test_weights_of_other_settings_are_not_recorded_under_these(monkeypatch, tmp_path, damage, message):
    fake(monkeypatch, [])
    jobs = tables.plan(2, mini=True, data=None, out=tmp_path, say=lambda line: None)[:1]
    optim = dataclasses.replace(jobs[0].config.optim, lr=0.5)
    tables.train(dataclasses.replace(jobs[0].config, optim=optim))
    if damage is not None:
        damage(jobs[0].config.out / "log.jsonl")
    with pytest.raises(RirnError, match=message):
        tables.run(jobs, tmp_path / "results.jsonl", say=lambda line: None)
    assert read_results(tmp_path / "results.jsonl") == []


def scores(out):
    return Scores(20, 0.5, out, 0.6)


def result(model, seed, *outs, **changes):
    parts = dict(zip((ALL, "abrupt"), map(scores, outs), strict=False))
    settings = {"model": dataclasses.asdict(ModelConfig(model))}
    fields = {"parameters": 1, "gmacs": 2.0, "seconds": 1.0, "settings": settings, "machine": {}} | changes
    return Result("shaken", "mini-gopro", model, seed, parts, **fields)


def test_gains_are_over_the_network_without_addition_and_of_the_same_seed():
    rows = {row.model: row for row in TABLES[3].all_rows(controls=True)}
    assert list(rows)[:3] == ["ifi-rnn", "ifi-rnn+rirn", "ifi-rnn+control"]
    lines = [
        Line(rows["gru"], "shaken", "GOPRO", [result("gru", 0, 21, 20.5), result("gru", 1, 23, 20)]),
        Line(
            rows["gru+rirn"],
            "shaken",
            "GOPRO",
            [result("gru+rirn", 1, 23.5, gmacs=3.0), result("gru+rirn", 0, 21.25)],
        ),
        Line(rows["gru+control"], "shaken", "GOPRO", [result("gru+control", 2, 22)]),
    ]
    text = table_text(3, lines)
    abrupt, whole = text[text.index("shaken, abrupt") :].split("shaken, all")
    cells = {line.split()[0]: line.split() for line in whole.splitlines() if line.startswith("gru")}
    # 0.5 and 0.25 over the base; the paper's gain and ratio of times.
    assert cells["gru+rirn"][1:6] == ["2", "20.00", "22.38", "0.6000", "+2.38"]
    assert cells["gru+rirn"][8:] == ["+0.38", "±", "0.18", "x1.50", "26.36", "0.8217", "+1.25", "x1.06"]
    assert cells["gru"][5:8] == ["+2.00", "±", "1.41"] and cells["gru"][8:] == ["25.11", "0.7890"]
    # No base of the same seed, none in the paper.
    assert cells["gru+control"][5:] == ["+2.00", "x1.00", "-", "-"]
    assert "gru              2" in abrupt and "gru+rirn         -" in abrupt
    assert "| gru+rirn | 2 | 20.00 |" in table_text(3, lines, markdown=True)


def test_lines_of_results(tmp_path):
    file = tmp_path / "some" / "results.jsonl"
    assert read_results(file) == []
    first, second = result("gru", 0, 21), result("gru", 1, 22, 23)
    append_result(file, first)
    with file.open("a") as handle:
        handle.write('{"dataset": "sha')  # a process died while it wrote
    assert read_results(file) == [first]
    append_result(file, second)
    assert read_results(file) == [first, second]
    file.write_text("{}\n" + file.read_text())
    with pytest.raises(RirnError, match=r"line 1 of .*results.jsonl is no result"):
        read_results(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(RirnError, match=r"cannot read the results .*results.jsonl"):
        read_results(file)


def test_an_option_that_is_younger_than_a_result_had_its_default(tmp_path):
    now = result("gru", 0, 21)
    model = {name: value for name, value in now.settings["model"].items() if name != "half_resolution"}
    file = tmp_path / "results.jsonl"
    append_result(file, dataclasses.replace(now, settings={"model": model, "optim": {"steps": 7}}))
    (read,) = read_results(file)
    assert read.settings["model"] == now.settings["model"]
    assert read.settings["optim"] == dataclasses.asdict(OptimConfig(steps=7))


def test_rows_that_another_process_is_at_are_left_to_it(monkeypatch, tmp_path):
    pytest.importorskip("fcntl")
    trained = []
    fake(monkeypatch, trained)
    jobs = tables.plan(2, mini=True, data=None, out=tmp_path, say=lambda line: None)
    with exclusively(jobs[0].config.out.with_suffix(".lock"), wait=False) as mine:
        assert mine
        with exclusively(jobs[0].config.out.with_suffix(".lock"), wait=False) as again:
            assert not again
        seen = []
        monkeypatch.setattr(tables, "_train_and_score", lambda job, say: seen.append(job) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tables.run(jobs, tmp_path / "results.jsonl", say=lambda line: None)
    assert seen == [jobs[1]]


def test_data_sets_that_are_there(tmp_path):
    for path in ("data/GOPRO_Large/train", "data/GOPRO_Large/test", "data/REDS/train", "data/REDS/val"):
        (tmp_path / path).mkdir(parents=True)
    said = []
    jobs = tables.plan(3, mini=False, data=tmp_path / "data", out=tmp_path / "out", say=said.append)
    assert len(said) == 1 and said[0].startswith("DVD is left out")
    assert len(jobs) == 24 and {job.dataset for job in jobs} == {"GOPRO", "REDS"}
    reds = next(job for job in jobs if job.dataset == "REDS" and job.row.model == "rdbn+rirn")
    assert reds.config.data.train == [reds.folder] == [tmp_path / "data/REDS"]
    assert (reds.config.data.split, reds.test_split) == ("train", "val")
    assert "--data.split train" in reds.command
    assert reds.config.optim.epochs == 200 and reds.config.model.width == 1
    assert (
        "--config reds --model.name rdbn+rirn" in reds.command
        and progress(reds.config, scored=False) == "new"
    )
    with pytest.raises(RirnError, match="none of the data sets of table 1: GOPRO, REDS"):
        tables.plan(1, mini=False, data=tmp_path / "out", out=tmp_path, say=said.append)
    with pytest.raises(RirnError, match="--data DIR"):
        tables.plan(1, mini=False, data=None, out=tmp_path)


def test_splits_that_lie_side_by_side(monkeypatch, tmp_path):
    # DVD as published: the official list alone says which videos are the test's.
    pytest.importorskip("skimage")
    rng = np.random.default_rng(0)
    for name, frames in (("IMG_0001", 4), ("IMG_0003", 2)):
        video = tmp_path / "data" / "DVD" / "quantitative_datasets" / name
        pairs = (tuple(rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)) for _ in range(frames))
        write_sequence(video, pairs)
        (video / "blur").rename(video / "input")
        (video / "sharp").rename(video / "GT")
    trained, scored = [], []
    fake(monkeypatch, trained)
    score = tables.evaluate
    monkeypatch.setattr(tables, "evaluate", lambda m, s, **o: scored.append(s) or score(m, s, **o))
    jobs = tables.plan(3, mini=True, data=tmp_path / "data", out=tmp_path / "out", say=lambda line: None)
    tables.run(jobs[:1], tmp_path / "results.jsonl", say=lambda line: None)
    data = trained[0].data
    assert [s.name for s in find_sequences(data.train[0], split=data.split)] == [
        "quantitative_datasets/IMG_0001"
    ]
    assert [s.name for s in scored[0]] == ["quantitative_datasets/IMG_0003"]


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RirnError, match="or the commands of `rirn table --dry-run` under torchrun"):
        jobs = tables.plan(2, mini=True, data=None, out=tmp_path, say=lambda line: None)
        tables.run(jobs, tmp_path / "results.jsonl")


def test_photo_data_are_written_once(tmp_path, tmp_path_factory, monkeypatch):
    pytest.importorskip("skimage")
    assert not set(photos.PHOTOS["train"]) & set(photos.PHOTOS["test"])
    monkeypatch.setattr(photos, "PHOTOS", {"train": ("brick.png",), "test": ("coins.png",)})
    monkeypatch.setattr(photos, "CLIPS", {"train": 1, "test": 1})
    monkeypatch.setattr(photos, "FRAMES", 2)
    typed = tmp_path_factory.mktemp("typed")
    for command in photos.photo_data_commands(typed):
        assert main(shlex.split(command)[1:]) == 0
    assert photos.photo_data_commands(typed) == []
    photos.write_photo_data(tmp_path)
    assert all(
        (typed / f.relative_to(tmp_path)).read_bytes() == f.read_bytes() for f in tmp_path.rglob("*.png")
    )
    found = [s.name for s in find_sequences(tmp_path)]
    assert found == ["test/abrupt/coins", "test/steady/coins", "train/abrupt/brick", "train/steady/brick"]
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 4 * 2 * 2 and read_image(files[0]).shape == (*photos.SIZE, 3)
    before = [f.stat().st_mtime_ns for f in files]
    photos.write_photo_data(tmp_path)
    assert [f.stat().st_mtime_ns for f in files] == before
    monkeypatch.setitem(photos.SHAKES, "steady", Shake(tremor=1))
    with pytest.raises(RirnError, match=r"steady was made with other parameters"):
        photos.write_photo_data(tmp_path)
