"""Timings of the fused ops and networks beside the eager and the compiled reference, installed as ``rirn.bench``."""
