"""Photos and folders: each under its own name and format, and what is not done is named."""

import os

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from rirn.cli import main
from rirn.data import read_image
from rirn.errors import RirnError
from rirn.video import BrokenStream, Reader, deblur
from rirn.video.batch import plan, unread
from rirn.video.parts import source_settings
from tests.video.clips import Identity, Invert, picture, probe, psnr, write_clip

ORIENTATION, MAKE, DIRECTORY, DATE = 0x0112, 0x010F, 0x8769, 0x9003


def photo(path, size=(64, 48), orientation=6, **options):
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "Maker"
    exif.get_ifd(DIRECTORY)[DATE] = "2022:11:09 20:36:38"
    Image.fromarray(picture(*size, 3)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_a_photo_keeps_its_format_and_facts(tmp_path, suffix):
    source, target = photo(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"
    deblur(Invert(), source, target, progress=False)
    with Image.open(target) as image, Image.open(source) as before:
        assert image.format == before.format and image.size == (48, 64)  # upright
        if suffix != ".tif":  # of which Pillow writes no such directory
            assert image.getexif().get_ifd(DIRECTORY)[DATE] == "2022:11:09 20:36:38"
        assert image.getexif()[MAKE] == "Maker" and image.getexif().get(ORIENTATION, 1) == 1
        assert psnr(255 - np.rot90(picture(64, 48, 3), -1), np.asarray(image.convert("RGB"))) > 25
    assert sorted(os.listdir(tmp_path)) == sorted([source.name, target.name])


def test_transparency_of_a_photo_stays(tmp_path):
    rgba = np.dstack([picture(16, 12, 0), np.arange(192, dtype=np.uint8).reshape(12, 16)])
    Image.fromarray(rgba).save(tmp_path / "in.png")
    deblur(Identity(), tmp_path / "in.png", tmp_path / "out.png", progress=False)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), rgba)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_turned_with_the_photo(tmp_path, orientation, suffix):
    rgba = Image.fromarray(np.dstack([picture(16, 12, 0), np.arange(192, dtype=np.uint8).reshape(12, 16)]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"lossless": True} if suffix == ".webp" else {}
    rgba.save(tmp_path / f"in{suffix}", exif=exif, **options)
    deblur(Identity(), tmp_path / f"in{suffix}", tmp_path / f"out{suffix}", progress=False)
    method = [None, 0, 3, 1, 5, 4, 6, 2][orientation - 1]
    upright = rgba if method is None else rgba.transpose(Image.Transpose(method))
    with Image.open(tmp_path / f"out{suffix}") as after:
        assert np.array_equal(np.asarray(after)[..., 3], np.asarray(upright)[..., 3])


def pages(path, kind="TIFF"):
    first, *others = (Image.fromarray(picture(64, 48, i)) for i in range(3))
    first.save(path, kind, save_all=True, append_images=others)


def told(path, **options):
    Image.fromarray(picture(64, 48, 0)).convert(options.pop("mode", "RGB")).save(path, **options)


def texts(path):
    about = PngInfo()
    about.add_text("Author", "somebody")
    told(path, pnginfo=about)


PROFILE = bytes(16) + b"%s" + bytes(108)


def deep(path):
    Image.fromarray(np.arange(3072, dtype=np.uint16).reshape(48, 64)).save(path)


@pytest.mark.parametrize(
    ("make", "source", "target", "named"),
    [
        (pages, "in.tif", "out.tif", "further pictures (2)"),
        (lambda path: pages(path, "MPO"), "in.jpg", "out.jpg", "further pictures (2)"),
        (texts, "in.png", "out.png", "texts"),
        (deep, "in.png", "out.png", "16 bits"),
        (lambda path: told(path, xmp=b"<x:xmpmeta/>"), "in.jpg", "out.jpg", "XMP data"),
        (lambda path: told(path, comment=b"hello"), "in.jpg", "out.jpg", "comment"),
        (lambda path: told(path, mode="RGBA"), "in.png", "out.jpg", "transparency"),
        (
            lambda path: told(path, mode="CMYK", icc_profile=bytes(16) + b"CMYK" + bytes(108)),
            "in.jpg",
            "out.jpg",
            "colour profile",
        ),
        (lambda path: told(path, icc_profile=bytes(16) + b"RGB " + bytes(108)), "in.jpg", "out.jpg", None),
        (photo, "in.jpg", "out.bmp", "EXIF data"),
        (photo, "in.jpg", "out.webp", None),
        (photo, "in.jpg", "out.mkv", "EXIF data"),
    ],
)
def test_what_a_photo_does_not_keep_is_named(tmp_path, caplog, make, source, target, named):
    make(tmp_path / source)
    deblur(Identity(), tmp_path / source, tmp_path / target, progress=False)
    assert (f"{target} does not hold: {named}." in caplog.text) == (named is not None)
    assert ("does not hold" in caplog.text) == (named is not None)
    if target == "out.mkv":
        return
    with Image.open(tmp_path / target) as image, Image.open(tmp_path / source) as before:
        profile = before.info.get("icc_profile", b"")
        assert image.info.get("icc_profile", b"") == (profile if b"RGB " in profile else b"")


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_is_none_is_upright(tmp_path, orientation):
    photo(tmp_path / "in.png", orientation=orientation)
    deblur(Identity(), tmp_path / "in.png", tmp_path / "out.png", progress=False)
    with Image.open(tmp_path / "out.png") as image:
        assert np.array_equal(np.asarray(image), picture(64, 48, 3))


def test_exif_data_that_cannot_be_written_again_is_named(tmp_path, caplog):
    """A JPEG holds 64 KiB of it."""
    exif = Image.Exif()
    exif[MAKE] = "x" * 70000
    Image.fromarray(picture(64, 48, 3)).save(tmp_path / "in.png", exif=exif)
    deblur(Identity(), tmp_path / "in.png", tmp_path / "out.jpg", progress=False)
    assert "out.jpg does not hold: what the file says of the picture (EXIF data is too long)." in caplog.text
    with Image.open(tmp_path / "out.jpg") as image:
        assert psnr(np.asarray(image), picture(64, 48, 3)) > 30


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".tif", ".jpg", ".png"])
def test_images_have_the_size_that_is_said_of_them(tmp_path, orientation, suffix):
    """Pillow turns a TIFF by itself."""
    photo(tmp_path / f"0{suffix}", orientation=orientation)
    with Reader(tmp_path / f"0{suffix}") as reader:
        (frame,) = reader
        assert frame.rgb.shape[:2] == (reader.info.height, reader.info.width)
        assert frame.rgb.shape[:2] == ((48, 64) if orientation < 5 else (64, 48))


def test_images_that_are_of_another_size_than_they_say_end_the_clip(tmp_path, monkeypatch):
    for i in range(3):
        Image.fromarray(picture(64, 48, i)).save(tmp_path / f"{i}.png")
    read = read_image
    monkeypatch.setattr("rirn.video.images.read_image", lambda f: np.rot90(read(f), f.stem == "2"))
    with (
        Reader(tmp_path) as reader,
        pytest.raises(BrokenStream, match=r"2\.png is 48x64, and not 64x48") as broken,
    ):
        assert len(list(reader)) < 3
    assert broken.value.frames == 2


def test_an_animation_does_not_become_one_image(tmp_path):
    first, *others = (Image.fromarray(picture(64, 48, i)) for i in range(3))
    first.save(tmp_path / "in.png", save_all=True, append_images=others)
    with pytest.raises(RirnError, match="is one image, and the input has more"):
        deblur(Identity(), tmp_path / "in.png", tmp_path / "out.png", progress=False)
    assert os.listdir(tmp_path) == ["in.png"]


def test_pictures_with_exif_data_are_read_from_videos(tmp_path):
    """PyAV has no name for that kind of side data."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frames = [tmp_path / f"{i}.jpg" for i in range(2)]
    for file in frames:
        Image.fromarray(picture(64, 48, 0)).save(file, exif=exif)
    (tmp_path / "in.mjpeg").write_bytes(b"".join(f.read_bytes() for f in frames))
    with Reader(tmp_path / "in.mjpeg") as reader:
        assert len(list(reader)) == 2 and abs(reader.info.rotation) == 90 and reader.info.display_matrix


def test_named_images_are_photos(tmp_path):
    sources = [str(photo(tmp_path / name)) for name in ("a.jpg", "b.png")]
    jobs = plan(sources, str(tmp_path / "out"))
    assert [os.path.basename(job.target) for job in jobs] == ["a.jpg", "b.png"]
    (job,) = plan(sources[:1], str(tmp_path / "out"))
    assert job.target == str(tmp_path / "out" / "a.jpg")


def test_images_of_a_folder_are_a_clip_or_photos(tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "a.png")
    photo(folder / "b.png")
    assert len(plan([str(folder)], "out.mp4")) == 1
    assert len(plan([str(folder)], "out", photos=True)) == 2
    photo(folder / "c.png", (32, 48))
    assert len(plan([str(folder)], "out")) == 3 and "differ in size" in caplog.text


def test_a_folder_that_mixes_is_done_whole(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a.MP4", 2)
    photo(folder / "b.JPG")
    (folder / "c.heic").touch()
    command = ["deblur", str(folder), str(tmp_path / "out"), "--model", "rirn-tiny"]
    assert main(command) == 1
    assert "c.heic" in capsys.readouterr().err and sorted(os.listdir(tmp_path / "out")) == ["a.MP4", "b.JPG"]
    assert len(probe(tmp_path / "out" / "a.MP4")[0]) == 2


@pytest.mark.parametrize(
    "suffix", ["vob", "flv", "ogv", "f4v", "3g2", "dv", "mod", "asf", "m2v", "insv", "VOB"]
)
def test_videos_of_every_kind_are_found(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").touch()
    (job,) = plan([str(tmp_path)], "out")
    assert job.target == "out/a.mkv"


def test_folders_in_folders(tmp_path):
    (tmp_path / "in" / "day1").mkdir(parents=True)
    write_clip(tmp_path / "in" / "day1" / "a.mp4", 2)
    with pytest.raises(RirnError, match="only folders; add --recursive"):
        deblur(Identity(), tmp_path / "in", tmp_path / "out.mp4", progress=False)
    (job,) = plan([str(tmp_path / "in")], "out", recursive=True)
    assert job.target == "out/day1/a.mp4"


def test_what_is_not_read_does_not_matter(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    photo(folder / "f0.png")
    (folder / ".#f0.png").symlink_to("nobody@host")
    (folder / "f9.png").symlink_to("nowhere")
    before = source_settings(folder)
    (folder / ".DS_Store").write_bytes(b"x" * 99)
    (folder / "out.mp4").write_bytes(b"x" * 99)
    assert source_settings(folder) == before and unread([str(folder)], "out") == []
    assert deblur(Identity(), folder, tmp_path / "out.mp4", progress=False).frames == 1


def test_tiles_of_a_photo_are_not_taken_for_the_whole(tmp_path, monkeypatch):
    (tmp_path / "in.heic").write_bytes(b"\0\0\0\x18ftypheic")

    class Tiles:
        streams = type("Streams", (), {"video": [None] * 48})

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr("rirn.video.photos.av.open", lambda name: Tiles())
    with pytest.raises(RirnError, match="is a photo in 48 tiles"):
        deblur(Identity(), tmp_path / "in.heic", tmp_path / "out", progress=False)


def test_what_earlier_runs_left_in_a_folder_is_no_source(tmp_path):
    """The target inside, under any spelling, and the parts of a run that was interrupted."""
    for name in ("a.mp4", "b/a.mp4", "out/a.mp4", "b/x.mp4.resume/segment-000000.mov", "out/b/raw.dng"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for target in (tmp_path / "out", tmp_path / "b" / ".." / "out", f"{tmp_path}/out/"):
        jobs = plan([str(tmp_path)], str(target), recursive=True)
        assert [os.path.relpath(job.source, tmp_path) for job in jobs] == ["a.mp4", "b/a.mp4"]
        assert unread([str(tmp_path)], str(target), recursive=True) == []


def test_the_target_in_a_folder_of_images_is_none_of_them(tmp_path):
    """Ctrl-C leaves a part of it there, and --resume goes on."""
    for name in ("0.png", "1.png", "out.mp4"):
        (tmp_path / name).touch()
    assert len(plan([str(tmp_path)], str(tmp_path / "out.mp4"))) == 1


def test_a_refused_batch_makes_no_folders(tmp_path, capsys):
    (tmp_path / "in" / "b").mkdir(parents=True)
    for name in ("a.png", "b/a.png"):
        photo(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    photo(tmp_path / "out" / "a.png")
    command = ["deblur", str(tmp_path / "in"), str(tmp_path / "out"), "--recursive", "--model", "rirn-tiny"]
    assert main(command) == 1 and "1 of 2 targets exist" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["a.png"]
