"""The paper's tables: every row is planned, trained once, scored once, and printed beside the paper's figures."""

import json

import numpy as np
import pytest

from rirn import RirnError, create_model, save_weights
from rirn.cli import main
from rirn.data import find_sequences, read_image, write_sequence
from rirn.models import model_names
from rirn.training import tables
from rirn.training.paper import TABLES
from rirn.training.toy import FRAMES, SIZE, SPLITS, invent_picture, write_toy_data

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
    assert {row.model for table in TABLES.values() for row in table.rows} <= set(model_names())


def fake(monkeypatch, trained):
    """Trainings that write untrained weights."""

    def train(config):
        trained.append(config)
        config.out.mkdir(parents=True)
        options = {"width": 0.2, "residual": True}
        save_weights(create_model(config.model.name, **options), config.out / "weights.safetensors")

    monkeypatch.setattr(tables, "train", train)
    monkeypatch.setattr(tables, "write_toy_data", small_toy)


def small_toy(folder):
    for split in ("train", "test"):
        if not (folder / split).exists():
            rng = np.random.default_rng(0)
            pairs = [tuple(rng.integers(0, 256, (2, 16, 20, 3), dtype=np.uint8)) for _ in range(3)]
            write_sequence(folder / split / "00", pairs)


def test_mini_table_from_nothing(monkeypatch, tmp_path, capsys):
    pytest.importorskip("skimage")
    trained = []
    fake(monkeypatch, trained)
    argv = ["table", "2", "--mini", "--out", str(tmp_path)]
    assert main([*argv, "--no-train"]) == 0
    empty = capsys.readouterr().out
    assert not trained and "28.65" in empty and "+0.35" in empty
    assert main([*argv, "--dry-run"]) == 0
    planned = [line for line in capsys.readouterr().out.splitlines() if "rirn train" in line]
    assert len(planned) == 3 and all(line.startswith("new ") for line in planned)
    assert main(argv) == 0
    text = capsys.readouterr().out
    assert [c.model.name for c in trained] == ["ifi-rnn", "ifi-rnn+dtb", "ifi-rnn+atb"]
    assert all(c.optim.steps == 300 and c.model.width == 0.25 for c in trained)
    scores = json.loads((tmp_path / "mini-toy" / "ifi-rnn" / "scores.json").read_text())
    # An untrained residual network returns its input, whose own row is there too.
    figures = f"{scores['psnr_in']:.2f}  {scores['ssim_in']:.4f}"
    assert scores["psnr_in"] == scores["psnr_out"] and text.count(figures) == 4
    assert main([*argv, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("done ") == 3
    assert main(argv) == 0
    assert capsys.readouterr().out.endswith(text[text.index("Table 2") :]) and len(trained) == 3


def test_gains_are_over_the_network_without_addition(tmp_path):
    jobs = tables.plan(3, mini=True, data=None, out=tmp_path, say=lambda line: None)
    results = [tables.Scores(20, 0.5, 21 + i + (0.5 if i % 2 else 0), 0.6) for i in range(len(jobs))]
    text = tables.format_table(3, jobs, results)
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    for base, (_, paper, _) in GAINS.items():
        assert f"+{1.5:.2f}" in lines[f"{base}+rirn"] and f"+{paper:.2f}" in lines[f"{base}+rirn"]
        assert "+" not in lines[base].removeprefix(base)
    results[0] = None
    assert (
        "+1.50"
        not in {line.split()[0]: line for line in tables.format_table(3, jobs, results).splitlines() if line}[
            "ifi-rnn+rirn"
        ]
    )


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
    assert "--config reds --model.name rdbn+rirn" in reds.command and tables.status(reds) == "new"
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
    tables.run(jobs[:1], say=lambda line: None)
    data = trained[0].data
    assert [s.name for s in find_sequences(data.train[0], split=data.split)] == [
        "quantitative_datasets/IMG_0001"
    ]
    assert [s.name for s in scored[0]] == ["quantitative_datasets/IMG_0003"]


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RirnError, match="start the commands of --dry-run under torchrun"):
        tables.run(tables.plan(2, mini=True, data=None, out=tmp_path, say=lambda line: None))


def test_invented_pictures_have_edges():
    a, b = (invent_picture(np.random.default_rng(i)) for i in (0, 0))
    assert np.array_equal(a, b) and a.dtype == np.uint8 and a.std() > 30
    assert (np.abs(np.diff(a.astype(int), axis=1)).max(-1) > 40).mean() > 0.02


def test_toy_data_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setitem(SPLITS, "train", 1)
    monkeypatch.setitem(SPLITS, "test", 1)
    write_toy_data(tmp_path)
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 2 * 2 * FRAMES
    before = [f.stat().st_mtime_ns for f in files]
    write_toy_data(tmp_path)
    assert [f.stat().st_mtime_ns for f in files] == before
    assert read_image(files[0]).shape == (*SIZE, 3)
