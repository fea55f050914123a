"""The training settings that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from rirn.errors import RirnError, near_match
from rirn.training.config import MIXTURE, DataConfig, ModelConfig, OptimConfig, TrainConfig


def recipes() -> dict[str, Path]:
    """Return names and paths of the YAML files: ``gopro``, ``reds`` and ``dvd`` as in the paper, ``mini-`` ones for a CPU."""
    folder = resources.files("rirn.training") / "configs"
    files = (Path(str(p)) for p in folder.iterdir())
    return {p.stem: p for p in sorted(files) if p.suffix == ".yaml"}


def find_recipe(name: str) -> Path:
    """Find a recipe that comes with the package, or a user's file.

    Raises:
        RirnError: there is neither; the message suggests the nearest name.
    """
    if Path(name).is_file():
        return Path(name)
    known = recipes()
    if name not in known:
        raise RirnError(f"there is no file or recipe {name!r}; {near_match(name, known)}")
    return known[name]


def load_recipe(
    name: str, *, model: str, out: Path, train: list[Path] | None = None, val: list[Path] | None = None
) -> TrainConfig:
    """Load a recipe that comes with the package, for a model and, if it names none itself, folders of data."""
    settings = yaml.safe_load(find_recipe(name).read_text(encoding="utf-8"))
    parts = {group: settings.pop(group, {}) for group in ("model", "data", "optim")}
    data = {
        name: MIXTURE[name](**value) if name in MIXTURE else value for name, value in parts["data"].items()
    }
    folders = {name: paths for name, paths in (("train", train), ("val", val)) if paths is not None}
    return TrainConfig(
        out=out,
        model=ModelConfig(name=model, **parts["model"]),
        data=DataConfig(**data | folders),
        optim=OptimConfig(**parts["optim"]),
        **settings,
    )
