"""The work of ``rirn figures``: load, check that the models have what a figure shows, draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rirn.bench.plots import pyplot
from rirn.errors import RirnError
from rirn.figures import crops, cut, features, gates, reach, states
from rirn.figures.canvas import make_folder
from rirn.figures.subjects import Subject, find_clips, load_subjects

NEEDS: dict[str, tuple[str, Callable[[Subject], bool]]] = {
    "3": ("IRM (+irm, +rirn)", lambda subject: subject.has_inner),
    "4": ("temporal blending (+atb, +dtb, +rirn, or strcnn)", lambda subject: subject.has_blending),
    "6": ("temporal blending (+atb, +dtb, +rirn, or strcnn)", lambda subject: subject.has_blending),
}
"""What a model needs to be in a figure."""
WITH_TRUTH = ("3", "6", "cut")


def draw(options: Any, device: str) -> None:
    """Draw the figures that the command line asks for, and print a summary and the files written.

    Raises:
        RirnError: matplotlib is not installed, something cannot be read or written, or a figure cannot be made from the
            models or the data.
    """
    plt = pyplot("rirn figures", "figures")
    _check(options)
    subjects = load_subjects(options.model, device)
    clips = find_clips(
        options.data,
        split=options.split,
        blur=options.blur,
        sequences=options.sequences,
        frames=options.frames,
    )
    chosen = {name: _able(name, subjects) for name in dict.fromkeys(options.figures)}
    for name in chosen:
        if name in WITH_TRUTH and not clips[0].has_truth:
            raise RirnError(
                f"{_title(name)} needs sharp frames; {options.data} has none beside the blurry ones"
            )
    crop = None if options.crop is None else crops.Crop.parse(options.crop)
    figures = {
        "3": partial(states.draw, shown=options.frame),
        "4": gates.draw,
        **{n: partial(crops.draw, shown=options.frame, crop=crop, name=n) for n in crops.NAMES},
        "6": partial(features.draw, shown=options.frame),
        "reach": partial(reach.draw, lags=options.lags, seed=options.seed),
        "cut": cut.draw,
    }
    out = make_folder(options.out)
    for name, able in chosen.items():
        print(f"{_title(name)}:")
        left_out = [s.label for s in subjects if s not in able]
        if left_out:
            print(f"left out for want of {NEEDS[name][0]}: {', '.join(left_out)}")
        paths, lines = figures[name](plt, able, clips, out)
        print("\n".join([*lines, *map(str, paths)]))


def _check(options: Any) -> None:
    for name, least in (("sequences", 1), ("frames", 2), ("frame", 0), ("lags", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise RirnError(f"--{name} must be at least {least}, not {value}")
    if not Path(options.data).exists():
        raise RirnError(
            f"there is no {options.data}; give a data set, a video or a folder of images to --data"
        )


def _able(name: str, subjects: list[Subject]) -> list[Subject]:
    """The models that the figure can show."""
    what, has = NEEDS.get(name, ("", lambda subject: True))
    able = [subject for subject in subjects if has(subject)]
    if not able:
        raise RirnError(
            f"{_title(name)} needs a model with {what}; {', '.join(s.label for s in subjects)} has none"
        )
    return able


def _title(name: str) -> str:
    return f"figure {name}" if name.isdigit() else f"the {name} test"
