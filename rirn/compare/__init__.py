"""Compare two videos on one HTML page, with a curve of their quality and maps of a network's gates."""

from rirn.compare.maps import GateMaps
from rirn.compare.report import write_report

__all__ = ["GateMaps", "write_report"]
