"""What moves the weights of a training: Adam, or Muon and Adam.

Muon (Jordan et al., https://kellerjordan.github.io/posts/muon) takes the gradient of a weight as a matrix, with momentum, and
moves the weight along the nearest orthogonal matrix. Here it moves the convolutions between the first and the last layers, as
matrices [out, in * height * width]. Adam moves all else: a filter that reads or writes colours, and a bias, is no map from
features to features. Muon's updates are scaled to the size of Adam's (https://arxiv.org/abs/2502.16982), so that one learning
rate fits both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rirn.errors import RirnError
from rirn.models.deblurrer import VideoDeblurrer
from rirn.training.config import OptimConfig


def make_optimizer(model: VideoDeblurrer, optim: OptimConfig) -> torch.optim.Optimizer:
    """Return the optimiser that the settings name. Its groups of parameters have the factor on their learning rate as ``rate``.

    Raises:
        RirnError: ``optim.rates`` names a part that the model does not have.
    """
    groups = _groups(model, optim.rates)
    if optim.name == "adam":
        return torch.optim.Adam(groups, lr=optim.lr)
    ends = {layer.weight for layer in (*model.base.input_layers, model.base.output_layer)}
    return MuonAndAdam(groups, ends, lr=optim.lr)


class MuonAndAdam(torch.optim.Optimizer):
    """Muon for the weights [out, in, height, width] of convolutions, Adam for other parameters.

    Args:
        groups: parameters, with options of their own.
        ends: weights of convolutions that are left to Adam.
        lr: learning rate of both.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], ends: Iterable[nn.Parameter], *, lr: float):
        left = {id(weight) for weight in ends}
        of_muon, of_adam = [], []
        for group in groups:
            hidden = [p for p in group["params"] if p.dim() == 4 and id(p) not in left]
            rest = [p for p in group["params"] if p.dim() != 4 or id(p) in left]
            of_muon += [{**group, "params": hidden}] if hidden else []
            of_adam += [{**group, "params": rest}] if rest else []
        super().__init__([*of_muon, *of_adam], {"lr": lr})
        self._weights = [weight for group in of_muon for weight in group["params"]]
        # torch.optim.Muon takes matrices alone: these share the memory of the weights.
        self._matrices = [
            nn.Parameter(w.detach().permute(_columns(w)).view(len(w), -1)) for w in self._weights
        ]
        matrices = iter(self._matrices)
        self._muon = torch.optim.Muon(
            [{"params": [next(matrices) for _ in group["params"]]} for group in of_muon],
            lr=lr,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adam = torch.optim.Adam([{"params": group["params"]} for group in of_adam], lr=lr)

    def step(self, closure: Any = None) -> None:
        """Move all parameters that have a gradient."""
        inner = [*self._muon.param_groups, *self._adam.param_groups]
        for group, own in zip(inner, self.param_groups, strict=True):
            group["lr"] = own["lr"]
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            grad = weight.grad
            matrix.grad = None if grad is None else grad.permute(_columns(weight)).reshape(matrix.shape)
        self._muon.step()
        self._adam.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._muon.load_state_dict(state_dict["muon"])
        self._adam.load_state_dict(state_dict["adam"])


def _columns(weight: Tensor) -> tuple[int, ...]:
    """The dimensions of a weight in the order in which it lies in memory: channels last or not."""
    return 0, *sorted((1, 2, 3), key=weight.stride, reverse=True)


def _groups(model: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Group parameters by the factor on their learning rate."""
    parts = {name: part for name, part in model.named_children() if next(part.parameters(), None) is not None}
    for name in rates:
        if name not in parts:
            raise RirnError(
                f"optim.rates names {name!r}, which is no part of the model; it has {', '.join(parts)}"
            )
    groups = [{"params": [*parts[name].parameters()], "rate": rate} for name, rate in rates.items()]
    chosen = {id(parameter) for group in groups for parameter in group["params"]}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [{"params": rest}, *groups] if rest else groups
