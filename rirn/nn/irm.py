"""Inner-recurrence module: the long-range memory of RIRN (equation 3)."""

from __future__ import annotations

from torch import Tensor, nn

from rirn import ops
from rirn.nn.blocks import ResBlock, conv3, weights_and_biases
from rirn.nn.by_name import by_name


class IRM(nn.Module):
    """A recurrent network whose input sequence is the hidden states of another one: ``h~_t = IRM(h_t,
    h~_{t-1})``.

    ``conv3 2c->c( Res(2c)( Res(2c)( ReLU( conv3 2c->2c( [h_t, h~_{t-1}] ) ) ) ) )``. The output is linear,
    like the hidden states it reads. The paper gives only the equation; the layers are ours: IFI-RNN's
    conv-Res-conv pattern for states, one block deeper. The whole step is one op, :func:`rirn.ops.irm_update`.

    Args:
        channels: c, channels of the hidden state.

    Example:
        >>> import torch
        >>> from rirn.nn import IRM
        >>> irm, inner = IRM(20), torch.zeros(1, 20, 8, 8)
        >>> for hidden in torch.rand(5, 1, 20, 8, 8):
        ...     inner = irm(hidden=hidden, inner=inner)
        >>> inner.shape
        torch.Size([1, 20, 8, 8])
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.joint = conv3(2 * channels, 2 * channels)
        self.res1 = ResBlock(2 * channels)
        self.res2 = ResBlock(2 * channels)
        self.out = conv3(2 * channels, channels)

    @by_name
    def forward(
        self,
        *,
        hidden: Tensor,  # [N, c, H, W]  h_t
        inner: Tensor,  # [N, c, H, W]  h~_{t-1}, zeros at the start of a sequence
    ) -> Tensor:  # [N, c, H, W]  h~_t
        layers = (self.joint, self.res1.conv1, self.res1.conv2, self.res2.conv1, self.res2.conv2, self.out)
        return ops.irm_update(hidden, inner, *weights_and_biases(layers))
