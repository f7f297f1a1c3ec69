"""Parts of the benchmark of data, run by `experiments/benchmarks/data.py`."""
