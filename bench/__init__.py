"""Timings of the fused ops beside the eager and the compiled reference, installed as ``rirn.bench``."""
