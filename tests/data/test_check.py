"""``rirn data check``: whole and partial copies pass, broken pairs are named."""

import shutil

import pytest

from rirn import RirnError
from rirn.cli import main
from rirn.data.check import check, format_report
from tests.data.layouts import bsd, dvd, gopro, reds, write_frames


def lines(root, **options):
    report = check(root, **options)
    return report, [" ".join(line.split()) for line in format_report(report).splitlines()]


def test_partial_gopro_says_what_is_missing(tmp_path):
    gopro(tmp_path, ["train/GOPR0374_11_03"], frames=48)
    gopro(tmp_path, ["train/GOPR0372_07_00", "test/GOPR0384_11_00"])
    report, text = lines(tmp_path)
    assert report.problems == []
    assert "train/GOPR0374_11_03 GOPRO train 48 8x6" in text
    assert "train/GOPR0372_07_00 GOPRO train 2 8x6 100 pairs in the official split" in text
    assert "GOPRO train: 2 of 22 sequences, 50 of 2103 pairs" in text
    assert "GOPRO test: 1 of 11 sequences, 2 of 1111 pairs" in text
    assert "not here: GOPR0384_11_05 to GOPR0881_11_01" in text
    assert "not here: GOPR0372_07_01 to GOPR0374_11_02, GOPR0378_13_00 to GOPR0884_11_00" in text


def test_whole_reds_sequence(tmp_path):
    reds(tmp_path, "val", ["000"])
    report, text = lines(tmp_path)
    assert report.problems == [] and "val/000 REDS val 100 8x6" in text
    assert "REDS train: 0 of 240 sequences, 0 of 24000 pairs" in text and "not here: 000 to 239" in text
    assert "REDS val: 1 of 30 sequences, 100 of 3000 pairs" in text and "not here: 001 to 029" in text


def test_missing_frames_are_named(tmp_path):
    reds(tmp_path, "val", ["007"])
    for kind in ("blur", "sharp"):
        for number in (0, 4, 5, 6, 50, 99):
            (tmp_path / "val" / f"val_{kind}" / "007" / f"{number:08d}.png").unlink()
    report, text = lines(tmp_path)
    assert report.problems == [] and report.sequences[0].missing == (0, 4, 5, 6, 50, 99)
    assert any("missing frames 0, 4 to 6, 50, 99; 100 pairs in the official split" in line for line in text)


def test_dvd_may_mix_sizes_between_videos_only(tmp_path):
    dvd(tmp_path, {"train/C0036": (16, 8), "train/IMG_0001": (8, 6)})
    assert check(tmp_path).problems == []
    shutil.rmtree(tmp_path / "train/C0036/GT")
    write_frames(tmp_path / "train/C0036/GT", ["00000.jpg", "00001.jpg"], (8, 16))
    (first, second), _ = lines(tmp_path)[0].problems, None
    assert "GT/00000.jpg is 8x16, most frames of the sequence are 16x8" in first and "00001.jpg" in second


def test_bsd(tmp_path):
    bsd(tmp_path, ["BSD_1ms8ms/test/000"], frames=149)
    report, text = lines(tmp_path)
    assert report.problems == [] and report.sequences[0].missing == (149,)
    assert "BSD 1ms8ms test: 1 of 20 sequences, 149 of 3000 pairs" in text


def test_unpaired_unreadable_and_doubled_frames_are_named(tmp_path):
    gopro(tmp_path, ["train/GOPR0372_07_00"], frames=6)
    folder = tmp_path / "train/GOPR0372_07_00"
    (folder / "sharp/000047.png").unlink()
    (folder / "blur_gamma/000048.png").write_bytes(b"no image")
    whole = (folder / "sharp/000049.png").read_bytes()
    (folder / "sharp/000049.png").write_bytes(whole[:-30])
    shutil.copy(folder / "sharp/000050.png", folder / "sharp/000050.jpg")
    report, text = lines(tmp_path)
    named = "\n".join(report.problems)
    assert len(report.problems) == 4 and report.sequences[0].missing == ()
    assert "000047.png has no partner in" in named and "blur_gamma/000048.png is not an image" in named
    assert (
        "sharp/000049.png is not an image" in named
        and "sharp/000050.png is one frame with 000050.jpg" in named
    )
    assert "broken:" in text
    # The header of the file that was cut short is whole.
    assert len(check(tmp_path, headers_only=True).problems) == 3


def test_halves_are_reported_and_no_fault(tmp_path):
    gopro(tmp_path, ["train/GOPR0372_07_00"])
    gopro(tmp_path, ["train/GOPR0372_07_01"], halves=("sharp",))
    report, text = lines(tmp_path)
    assert report.problems == []
    assert any("only sharp frames, left out: no folder of blurry ones" in line for line in text)
    assert any(line.startswith("GOPRO train: 1 of 22") for line in text)


def test_test_data_among_training_data_is_told(tmp_path):
    gopro(tmp_path, ["train/GOPR0384_11_00"])
    assert any("lies under train/, is of the official split test" in line for line in lines(tmp_path)[1])


def test_plain_folders_and_nothing(tmp_path):
    with pytest.raises(RirnError, match="there is no folder"):
        check(tmp_path / "none")
    with pytest.raises(RirnError, match="has no sequence"):
        check(tmp_path)
    for half in ("blur", "sharp"):
        (tmp_path / "empty" / half).mkdir(parents=True)
        write_frames(tmp_path / "a" / half, ["1.png", "2.png"])
    report, text = lines(tmp_path)
    assert len(report.problems) == 1 and "hold no images" in report.problems[0]
    assert "plain, no split: 2 sequences, 2 pairs" in text


def test_command(tmp_path, capsys):
    gopro(tmp_path, ["train/GOPR0372_07_00"], frames=6)
    assert main(["data", "check", str(tmp_path)]) == 0
    assert "GOPRO train: 1 of 22 sequences, 6 of 2103 pairs" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path), "--blur", "blur", "--headers-only", "--workers", "1"]) == 0
    (tmp_path / "train/GOPR0372_07_00/blur_gamma/000048.png").unlink()
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "sharp/000048.png has no partner" in out and "missing frames" not in out
    assert [line for line in err.splitlines() if line.startswith("rirn data: 1 frames of")]
    # No blurry frames at all are no data.
    assert main(["data", "check", str(tmp_path), "--blur", "nope"]) == 1
    assert "has no pair of frames: no sequence has nope/ beside sharp/" in capsys.readouterr().err
    # The other kind of blurry frames is whole.
    assert main(["data", "check", str(tmp_path), "--blur", "blur"]) == 0
