"""The encoder for a video, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rirn.errors import RirnError
from rirn.video import pyav as av
from rirn.video.frames import VideoInfo

# Constant rate factors that are visually lossless, by codec; x265 needs about two more for the same quality.
_CRF = {"libx264": 18, "libx265": 20}
# The largest factor of these; x264 silently accepts any other number and uses one of its own.
_WORST_CRF = 51
# Encoders whose transparency can be read back everywhere; libx265 has a format for it but does not start, and
# Matroska keeps that of VP9 beside the packets.
_WITH_ALPHA = ("prores_ks", "ffv1", "qtrle", "png", "apng", "utvideo", "cfhd", "rawvideo")
# Encoders that write closed captions, and whether they need an option to do so.
_WITH_CAPTIONS = {"libx264": False, "libx265": True, "mpeg2video": False}
# Files in which an encoder's packets wait until the whole is assembled. MOV keeps any time stamp exactly, but
# cannot hold every codec; NUT shifts times below zero, which only codecs without B-frames do without.
_PART_SUFFIX = {"libx264": ".mov", "libx265": ".mp4", "prores_ks": ".mov", "ffv1": ".nut", "qtrle": ".mov"}


@dataclass(frozen=True)
class Encoding:
    """Encoder options; None means what plays everywhere.

    Args:
        codec: FFmpeg's name of an encoder: libx264 (the default for 8 bits), libx265 (the default for more),
            prores_ks, libsvtav1, libvpx-vp9, ffv1 or another that PyAV has.
        crf: constant rate factor, lower means better quality and larger files; 18 for libx264, 20 for libx265.
        preset: the encoder's speed preset, ``ultrafast`` to ``veryslow`` for x264 and x265.
        pix_fmt: FFmpeg's name of the sample format. By default 4:2:0 with 8 bits, or 10 if the input
            has more than 8, and 4:4:4 for an odd width or height.
        options: additional private options of the encoder, by name.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    pix_fmt: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, info: VideoInfo) -> Encoding:
        """Return a copy with every None decided for frames as in ``info``.

        Raises:
            RirnError: there is no such video encoder, or it does not take the sample format or ``crf``.
        """
        codec = self.codec or self._default_codec(info.bits)
        try:
            encoder = av.Codec(codec, "w")
        except ValueError as error:  # PyAV's UnknownCodecError is one
            raise RirnError(
                f"This PyAV has no encoder '{codec}'; libx264 and libx265 come with its wheels, or write a "
                "folder of images"
            ) from error
        if encoder.type != "video":
            raise RirnError(
                f"The encoder {codec} is for {encoder.type}, not for pictures; use libx264 or libx265"
            )
        formats = [f.name for f in encoder.video_formats or ()]
        pix_fmt = self.pix_fmt or self._default_pix_fmt(codec, info, formats)
        if formats and pix_fmt not in formats:
            raise RirnError(
                f"The encoder {codec} does not take the sample format {pix_fmt}; it takes {', '.join(formats)}"
            )
        options = dict(self.options)
        crf = self.crf if self.crf is not None else _CRF.get(codec)
        if crf is not None:
            if codec in _CRF and not 0 <= crf <= _WORST_CRF:
                raise RirnError(
                    f"A constant rate factor of {crf} is not possible; {codec} takes 0 to {_WORST_CRF}"
                )
            options["crf"] = str(crf)
        if self.preset is not None:
            options["preset"] = self.preset
        if _WITH_CAPTIONS.get(codec):
            options.setdefault("a53cc", "1")
        further = options.get("x265-params", "")
        if codec == "libx265" and "log-level=" not in further:
            # x265 writes its settings to stderr, bypassing FFmpeg's log.
            options["x265-params"] = ":".join(filter(None, ["log-level=error", further]))
        return Encoding(codec, crf, self.preset, pix_fmt, options)

    @staticmethod
    def _default_codec(bits: int) -> str:
        if bits > 8 and "libx265" in av.codecs_available:
            return "libx265"  # browsers and phones refuse 10-bit H.264
        return "libx264"

    @staticmethod
    def _default_pix_fmt(codec: str, info: VideoInfo, formats: list[str]) -> str:
        """4:2:0, or 4:4:4 where a side is odd, with as many bits as the frames have and the encoder takes."""
        sampling = "yuv444p" if info.width % 2 or info.height % 2 else "yuv420p"
        wanted = [sampling, "yuv422p", "yuv444p"]
        deep = [f"{name}10le" for name in wanted]
        order = [*deep, *wanted] if info.bits > 8 else [*wanted, *deep]
        if info.has_alpha and codec in _WITH_ALPHA:
            clear = [name.replace("yuv", "yuva") for name in order]
            order = [*clear, "gbrap", "argb", "rgba", "bgra", *order]
        return next((name for name in order if name in formats), sampling)

    @property
    def keeps_alpha(self) -> bool:
        """Whether the sample format holds transparency."""
        return self.codec in _WITH_ALPHA and (self.pix_fmt or "").startswith(
            ("yuva", "gbrap", "argb", "rgba", "bgra", "abgr", "ya")
        )

    @property
    def keeps_captions(self) -> bool:
        """Whether the encoder writes the closed captions of its pictures."""
        return self.codec in _WITH_CAPTIONS and self.options.get("a53cc", "1") not in ("0", "false")

    @property
    def part_suffix(self) -> str:
        """Suffix of the files in which the packets of this codec wait."""
        return _PART_SUFFIX.get(self.codec, ".mp4")
