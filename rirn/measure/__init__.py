"""Time and memory of a call, for the benchmarks and for decisions at run time."""
