"""The fused ops of RIRN: one public function each, and one contract for all backends, stated by a reference."""

from rirn.ops._register import Explanation, explain
from rirn.ops.atb_blend import atb_blend
from rirn.ops.backends import available_backends, use_backend, why_not
from rirn.ops.conv3x3_chain import conv3x3_chain
from rirn.ops.dtb_blend import dtb_blend
from rirn.ops.fac import fac
from rirn.ops.gates import gru_reset, gru_update, lstm_update
from rirn.ops.held import hold_activations
from rirn.ops.irm_update import irm_update
from rirn.ops.precision import use_precision

__all__ = [
    "Explanation",
    "atb_blend",
    "available_backends",
    "conv3x3_chain",
    "dtb_blend",
    "explain",
    "fac",
    "gru_reset",
    "gru_update",
    "hold_activations",
    "irm_update",
    "lstm_update",
    "use_backend",
    "use_precision",
    "why_not",
]
