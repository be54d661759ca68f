"""Metrics (accumulate, merge, compute) and the evaluations that use them."""
