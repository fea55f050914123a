"""The fused ops of RIRN: one public function each, one contract for all backends, one reference that states
it."""

from rirn.ops.atb_blend import atb_blend
from rirn.ops.backends import available_backends, use_backend, why_not
from rirn.ops.irm_update import irm_update

__all__ = ["atb_blend", "available_backends", "irm_update", "use_backend", "why_not"]
