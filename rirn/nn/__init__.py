"""Modules of RIRN on top of :mod:`rirn.ops`."""

from rirn.nn.atb import ATB
from rirn.nn.blocks import ResBlock
from rirn.nn.irm import IRM
from rirn.nn.reconstructor import Fuse

__all__ = ["ATB", "IRM", "Fuse", "ResBlock"]
