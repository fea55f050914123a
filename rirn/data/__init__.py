"""Data on disk, training clips, and the synthesis of motion blur."""

from typing import TYPE_CHECKING

from rirn.lazy import names_of

if TYPE_CHECKING:
    from rirn.data.camera import Camera
    from rirn.data.clips import ClipDataset
    from rirn.data.images import list_images, read_image, write_png
    from rirn.data.interpolation import interpolate_frames
    from rirn.data.mixture import MixedClips
    from rirn.data.scenes import Scene, film_scene
    from rirn.data.sequences import Sequence, find_sequences, write_sequence
    from rirn.data.sources import Pairing, Shutter, Source
    from rirn.data.synthesis import Shake, average_frames, shake_photo

_HOMES = {
    **dict.fromkeys(("Camera",), "camera"),
    **dict.fromkeys(("ClipDataset",), "clips"),
    **dict.fromkeys(("list_images", "read_image", "write_png"), "images"),
    **dict.fromkeys(("interpolate_frames",), "interpolation"),
    **dict.fromkeys(("MixedClips",), "mixture"),
    **dict.fromkeys(("Scene", "film_scene"), "scenes"),
    **dict.fromkeys(("Sequence", "find_sequences", "write_sequence"), "sequences"),
    **dict.fromkeys(("Pairing", "Shutter", "Source"), "sources"),
    **dict.fromkeys(("Shake", "average_frames", "shake_photo"), "synthesis"),
}

__all__ = [
    "Camera",
    "ClipDataset",
    "MixedClips",
    "Pairing",
    "Scene",
    "Sequence",
    "Shake",
    "Shutter",
    "Source",
    "average_frames",
    "film_scene",
    "find_sequences",
    "interpolate_frames",
    "list_images",
    "read_image",
    "shake_photo",
    "write_png",
    "write_sequence",
]

__getattr__ = names_of(__name__, _HOMES)
