"""Benchmarks that need an NVIDIA GPU. Commands, conditions and results: docs/benchmarks.md."""
