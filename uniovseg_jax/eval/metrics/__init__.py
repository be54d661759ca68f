"""The metrics: accumulate, merge, compute."""
