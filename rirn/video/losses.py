"""What is not copied from a source along with its restored pictures, in words."""

from __future__ import annotations

from dataclasses import dataclass

from rirn.video import pyav as av

# Kinds of side data that a picture brings and no output here holds; the others are about how it was coded.
_SIDE_DATA = {
    "SPHERICAL": "marks of a 360-degree video",
    "GOP_TIMECODE": "time codes of the pictures",
    "S12M_TIMECODE": "time codes of the pictures",
    "MASTERING_DISPLAY_METADATA": "HDR metadata",
    "CONTENT_LIGHT_LEVEL": "HDR metadata",
    "DYNAMIC_HDR_PLUS": "HDR metadata",
    "DYNAMIC_HDR_VIVID": "HDR metadata",
    "DOVI_RPU_BUFFER": "HDR metadata",
    "DOVI_METADATA": "HDR metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "HDR metadata",
    "ICC_PROFILE": "colour profile",
    "AFD": "marks of the part that is shown",
    "PANSCAN": "marks of the part that is shown",
    "FILM_GRAIN_PARAMS": "synthetic film grain",
    "REGIONS_OF_INTEREST": "marks of regions",
    "DETECTION_BBOXES": "marks of regions",
}


@dataclass(frozen=True)
class Loss:
    """Something that is left out: ``what`` it is, and why or what to do about it."""

    what: str
    remark: str = "left out"

    def __str__(self) -> str:
        return f"its {self.what}: {self.remark}"


INTERLACING = Loss(
    "interlacing", "the pictures become progressive as they are; --deinterlace fills in the lines first"
)
HIDDEN_ALPHA = Loss(
    "transparency", "FFmpeg's own decoders of VP8 and VP9 do not read it; make a ProRes 4444 of it first"
)
EXIF = Loss("EXIF data", "left out; a photo that becomes a photo keeps it")
STEREO = Loss("marks of a stereoscopic video")
CAPTIONS = Loss("closed captions", "left out; videos of libx264 and libx265 keep them")
ALPHA = Loss(
    "transparency",
    "left out; images keep it, and .mov with --codec prores_ks or qtrle, .mkv with --codec ffv1",
)


def of_picture(picture: av.VideoFrame) -> list[Loss]:
    """What a picture holds that few or no outputs do: all but transparency and a display matrix."""
    found = [INTERLACING] if picture.interlaced_frame else []
    try:
        kinds = [data.type.name for data in picture.side_data]
    except ValueError:  # PyAV knows no name for some kinds
        return [*found, Loss("side data of a kind that is not known here")]
    found += [loss for kind, loss in (("A53_CC", CAPTIONS), ("STEREO3D", STEREO)) if kind in kinds]
    names = dict.fromkeys(_SIDE_DATA[kind] for kind in kinds if kind in _SIDE_DATA)
    return [*found, *map(Loss, names)]


def has_alpha(picture: av.VideoFrame) -> bool:
    """Whether a picture is partly transparent by its format; palettes are taken as opaque."""
    return picture.format.name.startswith(
        ("yuva", "gbrap", "rgba", "bgra", "argb", "abgr", "ya", "vuya", "ayuv")
    )
