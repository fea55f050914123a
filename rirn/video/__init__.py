"""Video in, video out: read frames with their time stamps, restore them, write them with sound and tags."""

from rirn.video.deblur import Summary, deblur
from rirn.video.encoding import Encoding
from rirn.video.files import check_target
from rirn.video.frames import BrokenStream, Colour, Frame, VideoInfo
from rirn.video.reader import Reader
from rirn.video.scenes import CutDetector
from rirn.video.tiles import Tiled
from rirn.video.writer import VideoWriter

__all__ = [
    "BrokenStream",
    "Colour",
    "CutDetector",
    "Encoding",
    "Frame",
    "Reader",
    "Summary",
    "Tiled",
    "VideoInfo",
    "VideoWriter",
    "check_target",
    "deblur",
]
