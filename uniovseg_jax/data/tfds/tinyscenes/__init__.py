"""tinyscenes: an embedded world on which the whole method can be shown on a laptop."""

from uniovseg_jax.data.tfds.tinyscenes.store import load_oracle, load_source, prepare
from uniovseg_jax.data.tfds.tinyscenes.world import (
    COLOURS,
    JOINT_NAMES,
    NOUNS,
    STUFF,
    THINGS,
    held_out_combinations,
    noun_id,
)

__all__ = [
    "COLOURS",
    "JOINT_NAMES",
    "NOUNS",
    "STUFF",
    "THINGS",
    "held_out_combinations",
    "load_oracle",
    "load_source",
    "noun_id",
    "prepare",
]
