"""Modules of RIRN and of its baselines on top of :mod:`rirn.ops`."""

from rirn.nn.around import RIRN, RIRNState
from rirn.nn.atb import ATB
from rirn.nn.blocks import ResBlock
from rirn.nn.convolutions import ConvSequential
from rirn.nn.dtb import DTB
from rirn.nn.fac import FAC
from rirn.nn.gated import ConvGRU, ConvLSTM
from rirn.nn.gsa import GSA
from rirn.nn.irm import IRM
from rirn.nn.reconstructor import Fuse
from rirn.nn.watch import Blending, blending_modules, watch_blending

__all__ = [
    "ATB",
    "DTB",
    "FAC",
    "GSA",
    "IRM",
    "RIRN",
    "Blending",
    "ConvGRU",
    "ConvLSTM",
    "ConvSequential",
    "Fuse",
    "RIRNState",
    "ResBlock",
    "blending_modules",
    "watch_blending",
]
