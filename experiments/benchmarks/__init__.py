"""Benchmarks: each prints one JSON document, ours beside a named peer in the same run."""
