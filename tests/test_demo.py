"""The demo on its own material, in little."""

import pytest

from rirn import RirnError, demo


def test_only_what_an_earlier_demo_made_is_replaced(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    for name, value in (("SIZE", (32, 48)), ("FRAMES", 3)):
        monkeypatch.setattr(demo, name, value)
    mine = tmp_path / "shaken" / "mine.txt"
    mine.parent.mkdir()
    mine.touch()
    with pytest.raises(RirnError, match="shaken is there already and not of an earlier demo"):
        demo.run(tmp_path, None, "rirn-tiny")
    assert mine.exists()
    for _ in range(2):
        demo.run(tmp_path / "out", None, "rirn-tiny")
    assert len(list((tmp_path / "out/shaken/restored").glob("*.png"))) == 3
