"""Benchmarks of pynode: run them with ``python -m benchmarks.NAME --help`` from the root of the
repository."""
