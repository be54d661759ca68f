"""The text side of training: from raw captions to short entity phrases."""

from uniovseg_jax.captions.parse import clean_entities, parse_rules

__all__ = ["clean_entities", "parse_rules"]
