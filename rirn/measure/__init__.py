"""Time and memory of a call, for the benchmarks and for what decides by them at run time."""
