"""Measurements that anyone can repeat; results in docs/benchmarks.md."""
