"""Files that are written whole or not at all, and text between markers of a person's page."""

import pytest

from rirn import RirnError, create_model, markers, save_weights
from rirn.files import replacing


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    with replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_page_stays_the_link_and_has_the_mode_that_it_had(tmp_path):
    page, link = tmp_path / "page.md", tmp_path / "link.md"
    page.write_text("above\n<!-- x -->\n<!-- /x -->\nbelow\n")
    page.chmod(0o640)
    link.symlink_to(page)
    inode = page.stat().st_ino
    markers.write(link, "x", "text\n")
    assert page.read_text() == "above\n<!-- x -->\ntext\n<!-- /x -->\nbelow\n"
    assert link.is_symlink() and page.stat().st_mode & 0o777 == 0o640 and page.stat().st_ino != inode


def test_weights_that_cannot_be_written_are_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RirnError, match=r"cannot write the weights .*w.safetensors"):
        save_weights(create_model("ifi-rnn", width=0.1), tmp_path / "file" / "w.safetensors")
