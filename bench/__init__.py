"""Benchmarks of the fused ops and networks against the eager and the compiled reference, installed as ``rirn.bench``."""
