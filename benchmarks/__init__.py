"""Benchmarks: what the product's own parts do against the ways one would otherwise take, measured side by side."""
