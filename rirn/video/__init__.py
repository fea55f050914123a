"""Video in, video out: read frames with their time stamps, restore them, write them with sound and tags."""

from typing import TYPE_CHECKING

from rirn.lazy import names_of

if TYPE_CHECKING:
    from rirn.video.encoding import Encoding
    from rirn.video.files import check_target
    from rirn.video.frames import BrokenStream, Colour, Frame, VideoInfo
    from rirn.video.options import Options
    from rirn.video.reader import Reader
    from rirn.video.run import Summary, deblur
    from rirn.video.scenes import CutDetector
    from rirn.video.tiles import Tiled
    from rirn.video.writer import VideoWriter

_HOMES = {
    "BrokenStream": "frames",
    "Colour": "frames",
    "CutDetector": "scenes",
    "Encoding": "encoding",
    "Frame": "frames",
    "Options": "options",
    "Reader": "reader",
    "Summary": "run",
    "Tiled": "tiles",
    "VideoInfo": "frames",
    "VideoWriter": "writer",
    "check_target": "files",
    "deblur": "run",
}

__all__ = [
    "BrokenStream",
    "Colour",
    "CutDetector",
    "Encoding",
    "Frame",
    "Options",
    "Reader",
    "Summary",
    "Tiled",
    "VideoInfo",
    "VideoWriter",
    "check_target",
    "deblur",
]

__getattr__ = names_of(__name__, _HOMES)
