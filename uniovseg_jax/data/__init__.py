"""Data: builders, sources, transforms and pipelines."""
