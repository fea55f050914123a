"""`rirn figures`: what it writes and what it refuses."""

import csv
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from rirn.cli import main
from rirn.data.sequences import find_sequences
from rirn.evaluation import evaluate
from rirn.weights import load, save_weights
from tests.figures.test_numbers import quick
from tests.video.clips import write_clip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Paths of untrained models by name."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {}
    for name in ("ifi-rnn", "ifi-rnn+dtb", "ifi-rnn+rirn", "strcnn+rirn"):
        model = quick(name)
        model.config["width"] = 0.1
        paths[name] = folder / f"{name}.safetensors"
        save_weights(model, paths[name])
    return {name: str(path) for name, path in paths.items()}


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_all_figures(weights, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["--model", weights["ifi-rnn"], weights["ifi-rnn+rirn"], "--data", str(data)]
    arguments += ["--lags", "4", "--frame", "3", "--frames", "10", "--out", str(tmp_path / "new" / "out")]
    assert main(["figures", "3", "4", "5", "6", "reach", "cut", *arguments]) == 0
    out = tmp_path / "new" / "out"
    pictures = ["cut.png", "fig3-ifi-rnn+rirn.png", "fig4.png", "fig5.png", "fig6.png", "reach.png"]
    tables = ["cut.csv", "fig3-blocks.csv", "fig3-frames.csv", "fig4-histogram.csv", "fig4.csv", "fig5.csv"]
    assert sorted(p.name for p in out.iterdir()) == sorted([*pictures, *tables, "fig6.csv", "reach.csv"])
    for name in pictures:
        assert np.asarray(Image.open(out / name).convert("L")).std() > 5, name
    printed = capsys.readouterr().out
    assert (
        "figure 3:\nleft out for want of IRM (+irm, +rirn): ifi-rnn\n" in printed
        and str(out / "cut.csv") in printed
    )

    scores = {s.sequence: s for s in evaluate(load(weights["ifi-rnn+rirn"]), find_sequences(data))}
    crops = {(r["model"], r["clip"]): r for r in table(out / "fig5.csv")}
    assert {model for model, _ in crops} == {"input", "ifi-rnn", "ifi-rnn+rirn"}
    # The frames of the figure lack two columns and rows, which the network sees as replicated ones.
    assert float(crops["ifi-rnn+rirn", "a"]["psnr_dB"]) == pytest.approx(
        scores["a"].per_frame[3].psnr_out, abs=0.3
    )
    assert {r["k"] for r in table(out / "reach.csv")} == set("01234")
    assert len(table(out / "fig3-frames.csv")) == len(table(out / "fig6.csv")) == 2 * 9
    assert {r["model"] for r in table(out / "fig4.csv")} == {"ifi-rnn+rirn"}
    assert sum(float(r["share"]) for r in table(out / "fig4-histogram.csv")) == pytest.approx(1, abs=1e-4)


def test_a_video_has_crops_without_truth(weights, tmp_path):
    pytest.importorskip("matplotlib")
    clip = write_clip(tmp_path / "clip.mp4", 4)
    arguments = ["--model", weights["strcnn+rirn"], "--data", str(clip), "--out", str(tmp_path)]
    assert main(["figures", "5", "--frame", "1", "--crop", "20x16+4+8", *arguments]) == 0
    rows = table(tmp_path / "fig5.csv")
    assert [r["model"] for r in rows] == ["input", "strcnn+rirn"] and float(rows[0]["crop_sharpness"]) > 0


def test_other_figures_of_crops_are_the_same_by_other_names(weights, data, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = ["--model", weights["ifi-rnn"], "--data", str(data), "--frames", "3", "--out", str(tmp_path)]
    assert main(["figures", "5", "7", "10", *arguments]) == 0
    assert table(tmp_path / "fig7.csv") == table(tmp_path / "fig10.csv") == table(tmp_path / "fig5.csv")
    assert {p.name for p in tmp_path.glob("*.png")} == {"fig5.png", "fig7.png", "fig10.png"}


def test_reach_over_fewer_frames_than_a_model_drops(data, tmp_path):
    pytest.importorskip("matplotlib")
    model = quick("strcnn", ends="drop")
    model.config["width"] = 0.1
    save_weights(model, tmp_path / "drop.safetensors")
    given = ["--model", str(tmp_path / "drop.safetensors"), "--data", str(data), "--out", str(tmp_path)]
    assert main(["figures", "reach", "--lags", "1", *given]) == 0
    assert {row["k"] for row in table(tmp_path / "reach.csv")} == {"0", "1"}


def test_pairs_of_two_sizes_are_refused(weights, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    shutil.copytree(data / "a", tmp_path / "data" / "a")
    frame = sorted((tmp_path / "data" / "a" / "sharp").iterdir())[4]
    image = Image.open(frame)
    image.resize((image.width, image.height - 1)).save(frame)  # the same multiple of 8
    given = ["--model", weights["ifi-rnn+rirn"], "--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    assert main(["figures", "6", *given]) == 1
    assert "differ in size (34x26 and 34x25)" in capsys.readouterr().err


def test_one_cut_has_no_spread(weights, data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    given = ["--model", weights["ifi-rnn"], "--data", str(data), "--out", str(tmp_path)]
    assert main(["figures", "cut", "--sequences", "1", "--frames", "10", *given]) == 0
    printed = capsys.readouterr().out
    assert "dB lost at t, 1 cut\n" in printed and "±" not in printed


def test_cut_refuses_models_that_drop_frames(data, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    model = quick("strcnn", ends="drop")
    model.config["width"] = 0.1
    save_weights(model, tmp_path / "drop.safetensors")
    given = ["--model", str(tmp_path / "drop.safetensors"), "--data", str(data), "--out", str(tmp_path)]
    assert main(["figures", "cut", *given]) == 1
    assert "strcnn drops it" in capsys.readouterr().err


def test_reach_does_not_depend_on_how_far_it_is_looked_at(weights, data, tmp_path):
    pytest.importorskip("matplotlib")
    norms = []
    for lags in ("2", "6"):
        out = tmp_path / lags
        given = ["--model", weights["ifi-rnn+rirn"], "--data", str(data), "--out", str(out)]
        assert main(["figures", "reach", "--lags", lags, *given]) == 0
        norms.append(
            [float(r["norm"]) for r in table(out / "reach.csv") if r["clip"] == "a" and r["k"] in "012"]
        )
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_refusals(weights, data, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    clip = write_clip(tmp_path / "clip.mp4", 3)
    (tmp_path / "file").touch()

    def refused(words, *arguments, model="ifi-rnn", source=data):
        given = ["--model", weights[model], "--data", str(source), "--out", str(tmp_path / "out")]
        assert main(["figures", *given, *arguments]) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1, error

    refused("figure 3 needs a model with IRM (+irm, +rirn); ifi-rnn has none", "3")
    refused("figure 4 needs a model with temporal blending", "4")
    refused("figure 6 needs sharp frames", "6", model="ifi-rnn+rirn", source=clip)
    refused("the cut test needs sharp frames", "cut", source=clip)
    refused("the reach over 20 frames of ifi-rnn needs clips of 21 frames; lower --lags", "reach")
    refused("the cut test of ifi-rnn needs clips of at least 10 frames", "cut", "--frames", "9")
    refused("--frame 40 is not among the 12 frames of a", "5", "--frame", "40")
    for figure in "36":
        words = "--frame 12 is not among the 12 frames of the first clip"
        refused(words, figure, "--frame", "12", model="ifi-rnn+rirn")
    refused("--lags must be at least 1, not 0", "reach", "--lags", "0")
    refused("--split and --blur choose within a data set", "5", "--split", "test", source=clip)
    refused("--crop must be of the form", "5", "--crop", "20")
    refused("there is no", "5", source=tmp_path / "gone")
    refused("cannot make the folder", "5", "--out", str(tmp_path / "file"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    refused("rirn figures needs matplotlib: pip install 'rirn[figures]'", "5")
