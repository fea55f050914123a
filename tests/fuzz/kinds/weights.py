"""Weights files and saved states: safetensors, their header, what it says of the model, and the numbers."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import rirn
from rirn.models.state import State
from rirn.training.config import ModelConfig
from tests.fuzz.kinds.base import Act, command, pick
from tests.fuzz.mutate import change_tensor, change_value, damage, strange
from tests.video.clips import write_clip

MODELS = (
    ("gru", {"width": 0.1}),
    ("ifi-rnn+rirn", {"width": 0.1, "residual": True, "variant": "C1H2"}),
    ("rdbn+gsa", {"width": 0.1, "blocks": 1}),
    ("strcnn+atb", {"width": 0.1, "atb_decay": 0.9}),
)


class WeightsFiles:
    def __init__(self, seeds: Path):
        torch.manual_seed(0)
        self.files, self.states = [], []
        for name, options in MODELS:
            model = rirn.create_model(name, **options).eval()
            self.files.append(seeds / f"{name}.safetensors")
            rirn.save_weights(model, self.files[-1])
            with torch.no_grad():
                _, state = model.step(torch.rand(1, 3, 16, 16), None)
            self.states.append(seeds / f"{name}.state.safetensors")
            state.save(self.states[-1])
        self.clip = write_clip(seeds / "clip.mkv", 2, 32, 24, codec="ffv1")

    def prepare(self, rng: random.Random, folder: Path) -> Act:
        path = folder / "in.safetensors"
        if rng.random() < 0.1:
            file, content = pick(rng, self.states)
            path.write_bytes(damage(rng, content, head=400))
            model = rirn.load(file.with_name(file.name.replace(".state", "")))
            return lambda: _go_on(model, path)
        file, content = pick(rng, self.files)
        way = rng.random()
        if way < 0.3:
            path.write_bytes(damage(rng, content))
        elif way < 0.6:
            path.write_bytes(_other_header(rng, content))
        elif way < 0.8:
            path.write_bytes(_other_model(rng, content))
        else:
            tensors = load_file(file)
            for name in rng.sample(sorted(tensors), rng.randint(1, 3)):
                changed = change_tensor(rng, tensors[name])
                tensors[name] = changed.to_dense().contiguous() if changed.is_sparse else changed.contiguous()
            save_file(tensors, path, metadata=_header(content)["__metadata__"])
        if rng.random() < 0.15:
            return command("deblur", self.clip, folder / "out" / "clip.mkv", "--model", path)
        return lambda: _step(path)


def _step(path: Path) -> None:
    """Load the weights and restore a frame; what is not finite in them may be so in the image."""
    model = rirn.load(path)
    with torch.inference_mode():
        model.step(torch.full((1, 3, 9, 10), 0.5), None)


def _go_on(model: Any, path: Path) -> None:
    """Load a state and go on from it; one of another size is the caller's mistake, a ValueError by contract."""
    state = State.load(path)
    try:
        with torch.inference_mode():
            model.step(torch.full((1, 3, 16, 16), 0.5), state)
    except ValueError as error:
        raise rirn.RirnError(str(error)) from error


def _header(content: bytes) -> dict[str, Any]:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def _with_header(content: bytes, header: Any) -> bytes:
    text = json.dumps(header).encode()
    start = 8 + int.from_bytes(content[:8], "little")
    return len(text).to_bytes(8, "little") + text + content[start:]


def _other_header(rng: random.Random, content: bytes) -> bytes:
    """Another dtype, shape, place or name of a tensor."""
    header = _header(content)
    if rng.random() < 0.3:
        tensor = header[rng.choice([name for name in header if name != "__metadata__"])]
        tensor["dtype"] = rng.choice(("F16", "BF16", "F64", "I64", "BOOL", "F8_E4M3", "X"))
    elif rng.random() < 0.5:
        tensor = header[rng.choice([name for name in header if name != "__metadata__"])]
        tensor["data_offsets"] = [rng.choice((0, -1, 4, 2**40, 2**63)) for _ in range(2)]
    else:
        header = change_value(rng, header)
    return _with_header(content, header)


def _other_model(rng: random.Random, content: bytes) -> bytes:
    """Other words on the model, such as one that would need all memory."""
    header = _header(content)
    config = json.loads(header["__metadata__"]["model"])
    fields = ["name", "variant", "blocks", "ends", "identity_init", *vars(ModelConfig())]
    values = (8, 8.0, 100, 10**9, 1e-9, "C9H9", "C999999999H9", "reflect", "rdbn", "estrnn", "stfan+rirn")
    for _ in range(rng.randint(1, 2)):
        config[rng.choice(fields)] = rng.choice(values) if rng.random() < 0.6 else strange(rng)
    header["__metadata__"]["model"] = json.dumps(config)
    return _with_header(content, header)
