"""Analyses without a model: what pixels, names and metadata tell, and how little that is, as `confidence`."""
