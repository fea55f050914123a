"""The commands of `rirn`, one file each: `parser()` says what can be typed, `run(options)` does it."""
