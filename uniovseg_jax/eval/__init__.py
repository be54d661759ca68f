"""Scores of models: metrics, runs on benchmarks, files on disk, reports."""
