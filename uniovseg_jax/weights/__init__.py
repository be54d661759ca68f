"""Weights: name-mapping rules and their engine, model directories."""
