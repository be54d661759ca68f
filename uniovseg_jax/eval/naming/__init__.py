"""Matching accuracy: how well CLIP alone names true masks, by input size."""
