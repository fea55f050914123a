"""Data on disk, training clips, and the synthesis of motion blur."""

from rirn.data.clips import ClipDataset
from rirn.data.images import list_images, read_image, write_png
from rirn.data.interpolation import interpolate_frames
from rirn.data.sequences import Sequence, find_sequences, write_sequence
from rirn.data.synthesis import Shake, average_frames, shake_photo

__all__ = [
    "ClipDataset",
    "Sequence",
    "Shake",
    "average_frames",
    "find_sequences",
    "interpolate_frames",
    "list_images",
    "read_image",
    "shake_photo",
    "write_png",
    "write_sequence",
]
