"""The commands of ``rirn``, one file each: ``make_parser()`` says what can be typed, ``run(options)`` does it."""
