"""``rirn train``."""

from __future__ import annotations

import os
from typing import Any

from rirn.commands.parser import OneLine, check_there
from rirn.errors import RirnError

SUMMARY = "Train a model on folders of blurry and sharp frames."


def _recipe_file() -> type:
    from jsonargparse import ActionConfigFile

    class RecipeFile(ActionConfigFile):
        """A configuration file, or the name of one that comes with the package."""

        def __call__(self, parser, cfg, values, option_string=None):
            from rirn.training.recipes import find_recipe

            parser.config_file = values
            try:
                super().__call__(parser, cfg, str(find_recipe(values)), option_string)
            except (UnicodeDecodeError, RecursionError) as error:
                reason = "nested too deep" if isinstance(error, RecursionError) else "not text in UTF-8"
                raise RirnError(f"the configuration file {values} is {reason}; give a YAML file") from error

    return RecipeFile


def make_parser() -> OneLine:
    from rirn.commands import settings
    from rirn.training.config import TrainConfig

    settings.jsonargparse.set_parsing_settings(
        docstring_parse_attribute_docstrings=True
    )  # the help texts of the fields of TrainConfig
    parser = settings.SettingsParser(
        description=SUMMARY,
        epilog="examples:\n"
        "  rirn train --out runs/mine --data.train+=GOPRO_Large/train --data.val+=GOPRO_Large/test\n"
        "  rirn train --config gopro --out runs/gopro --data.train+=GOPRO_Large/train --model.name rdbn+rirn\n"
        "  rirn train --config mine.yaml --optim.lr 2e-4\n"
        "  torchrun --nproc-per-node 8 -m rirn train --config gopro --out ...",
    )
    parser.add_argument(
        "--config",
        action=_recipe_file(),
        help="YAML file with any of the options below, or a recipe that comes with rirn: gopro, reds, dvd, "
        "mini-gopro, mini-reds, mini-dvd",
    )
    parser.add_class_arguments(TrainConfig)
    return parser


def run(options: Any) -> None:
    from jsonargparse import Namespace

    from rirn.training.config import TrainConfig

    options.pop("config", None)
    for name in ("data", "model", "optim"):
        if options[name] is None:
            raise RirnError(f"{name} is empty in the configuration; give its settings, or leave the line out")
        if not isinstance(options[name], Namespace):
            raise RirnError(
                f"{name} must be a group of settings in the configuration; got {options[name]!r:.50}"
            )
    config = TrainConfig(**vars(make_parser().instantiate(options)))
    folders = [source.path for source in config.data.sources]
    check_there(*folders, *map(config.data.below_root, config.data.val))
    from rirn.training.trainer import train

    weights = train(config)
    if os.environ.get("RANK", "0") == "0":  # under torchrun one process speaks for all
        print(weights)
