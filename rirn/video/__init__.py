"""Video in, video out: read frames with their time stamps, restore them, write them with sound and tags."""

from rirn.video.deblur import Summary, deblur
from rirn.video.frames import BrokenStream, Colour, Frame, VideoInfo
from rirn.video.reader import Reader
from rirn.video.writer import ImageFolderWriter, VideoWriter, check_target, open_writer

__all__ = [
    "BrokenStream",
    "Colour",
    "Frame",
    "ImageFolderWriter",
    "Reader",
    "Summary",
    "VideoInfo",
    "VideoWriter",
    "check_target",
    "deblur",
    "open_writer",
]
