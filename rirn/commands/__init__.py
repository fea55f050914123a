"""The commands of `rirn`, one file each: `make_parser()` says what can be typed, `run(options)` does it."""

try:
    import jsonargparse  # noqa: F401, nothing else of rirn needs it
except ImportError as error:
    raise SystemExit(
        f"rirn: the command line needs jsonargparse, which does not import ({error}): "
        "run `pip install 'jsonargparse[signatures]>=4.40'`"
    ) from None
