"""Output files of a figure: matplotlib pictures, and tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rirn.errors import RirnError
from rirn.files import replacing


def make_folder(path: Path) -> Path:
    """Return the folder, creating it if it does not exist.

    Raises:
        RirnError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RirnError(f"cannot make the folder {path} for the figures: {error.strerror}") from error
    return path


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write rows with the same keys as CSV; floating-point numbers get six digits.

    Raises:
        RirnError: the file cannot be written.
    """
    try:
        with replacing(path) as partial, open(partial, "x", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    except OSError as error:
        raise RirnError(f"cannot write {path}: {error.strerror}") from error
    return path


def save(plt: Any, figure: Any, path: Path) -> Path:
    """Write a matplotlib figure and close it.

    Raises:
        RirnError: the file cannot be written.
    """
    try:
        with replacing(path) as partial:
            figure.savefig(partial, dpi=130, format=path.suffix.removeprefix("."))
    except OSError as error:
        raise RirnError(f"cannot write {path}: {error.strerror}") from error
    finally:
        plt.close(figure)
    return path


def show_images(axes: Any, image: Any, title: str, **options: Any) -> Any:
    """Draw an array as an image without axes."""
    drawn = axes.imshow(np.asarray(image), **options)
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()
    return drawn


def colours(plt: Any, kinds: Iterable[str]) -> dict[str, Any]:
    """Assign a colour to each kind of model."""
    cycle = plt.get_cmap("tab10").colors
    return {kind: cycle[i % len(cycle)] for i, kind in enumerate(dict.fromkeys(kinds))}


def show_legend(
    plt: Any, figure: Any, colour: Mapping[str, Any], styles: Mapping[str, str] | None = None
) -> None:
    """Add a legend beside the axes: a colour for each kind of model and, in black, the line styles.

    There is one entry per kind, not per run: a dozen runs would hide the plot.
    """
    entries = [(kind, {"color": value}) for kind, value in colour.items()]
    entries += [
        (meaning, {"color": "black", "linestyle": style}) for meaning, style in (styles or {}).items()
    ]
    handles = [plt.Line2D([], [], label=label, **look) for label, look in entries]
    figure.legend(handles=handles, loc="outside right upper", fontsize=8)
