"""``rirn train``."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path

from rirn.commands.parser import OneLine, check_there

SUMMARY = "Train a model on folders of blurry and sharp frames."


def _find_recipe(name: str) -> Path:
    from rirn.training.recipes import find_recipe

    return find_recipe(name)


def make_parser() -> OneLine:
    from rirn.commands.settings import SettingsParser
    from rirn.training.config import TrainConfig

    return SettingsParser(
        TrainConfig,
        _find_recipe,
        "YAML file with any of the options below, or a recipe that comes with rirn: gopro, reds, dvd, mini-gopro, "
        "mini-reds, mini-dvd, rirn-small, rirn-tiny",
        usage="%(prog)s [-h] [--config FILE] --out PATH --data.train+=PATH [--NAME VALUE ...]",
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn train --out runs/mine --data.train+=GOPRO_Large/train --data.val+=GOPRO_Large/test\n"
        "  rirn train --config gopro --out runs/gopro --data.train+=GOPRO_Large/train --model.name rdbn+rirn\n"
        "  rirn train --config mine.yaml --optim.lr 2e-4\n"
        "  torchrun --nproc-per-node 8 -m rirn train --config gopro --out ...",
    )


def run(options: Namespace) -> None:
    config = options.settings()
    folders = [source.path for source in config.data.sources]
    check_there(*folders, *map(config.data.below_root, config.data.val))
    from rirn.training.trainer import train

    weights = train(config)
    if os.environ.get("RANK", "0") == "0":  # under torchrun, one process speaks for all
        print(weights)
