"""Training losses."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from rirn.errors import RirnError

FLOOR = 3e-4
"""Mean squared error below which :func:`psnr_loss` flattens out, 35 dB: nearly correct frames have little weight."""

PSNR_SCALE = 0.02
"""Makes the gradient of :func:`psnr_loss` about as large as L1's, so that one ``clip_norm`` suits both."""


def l1_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute error over all pixels; images [N, T, 3, H, W] in [0, 1]."""
    return F.l1_loss(restored, sharp)


def psnr_loss(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean over the frames of ``0.02 log(mse + 3e-4)``; images [N, T, 3, H, W] in [0, 1].

    The PSNR of every frame counts equally, as in an evaluation. With L1, a few heavily blurred frames dominate, and the network
    learns to change frames that should be left alone. Based on the PSNR loss of HINet (Chen et al., CVPRW 2021).
    """
    return PSNR_SCALE * ((restored - sharp).square().mean((-3, -2, -1)) + FLOOR).log().mean()


Loss = Callable[[Tensor, Tensor], Tensor]
"""Maps restored and sharp images, [N, T, 3, H, W] float32, roughly in [0, 1], to one number, a mean over the frames."""

LOSSES: dict[str, Loss] = {"l1": l1_loss, "psnr": psnr_loss}


def register_loss(name: str) -> Callable[[Loss], Loss]:
    """Decorator: register your own loss for ``optim.loss``.

    Raises:
        RirnError: the name is taken.

    Example:
        >>> import rirn
        >>> @rirn.register_loss("charbonnier")
        ... def charbonnier(restored, sharp):
        ...     return ((restored - sharp).square() + 1e-6).sqrt().mean()
    """

    def register(loss: Loss) -> Loss:
        known = LOSSES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            loss.__module__,
            loss.__qualname__,
        ):
            raise RirnError(f"there is a loss {name!r} already, of {known.__module__}; take another name")
        LOSSES[name] = loss
        return loss

    return register
