"""The world that a seed makes: its vocabulary, colours, textures and unseen combinations."""

import colorsys
import dataclasses
import functools

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.data.tfds.tinyscenes import textures
from uniovseg_jax.data.tfds.tinyscenes.shapes import SHAPES

THINGS = tuple(SHAPES)
STUFF = textures.STUFF
# Hue, saturation and value, each 0..1. Kept apart so that a colour name is never a matter of taste.
_COLOURS_HSV = {
    "red": (0.995, 0.9, 0.84),
    "orange": (0.073, 0.93, 0.98),
    "yellow": (0.148, 0.88, 0.97),
    "green": (0.385, 0.85, 0.62),
    "blue": (0.635, 0.85, 0.88),
    "purple": (0.79, 0.66, 0.62),
    "white": (0.1, 0.02, 0.97),
    "black": (0.6, 0.15, 0.13),
}
COLOURS = tuple(_COLOURS_HSV)
NOUNS = THINGS + STUFF
# The joint vocabulary: index = thing * 8 + colour for the 96 combinations, then 96 + stuff.
JOINT_NAMES = tuple(f"{colour} {thing}" for thing in THINGS for colour in COLOURS) + STUFF

Combination = tuple[str, str]  # (colour, thing)


def combination_id(colour: str, thing: str) -> int:
    """Index of a coloured thing in `JOINT_NAMES`."""
    return THINGS.index(thing) * len(COLOURS) + COLOURS.index(colour)


def stuff_id(stuff: str) -> int:
    """Index of a kind of stuff in `JOINT_NAMES`."""
    return len(THINGS) * len(COLOURS) + STUFF.index(stuff)


def noun_id(joint_id: int) -> int:
    """Index in `NOUNS` of the noun behind an index of `JOINT_NAMES`."""
    combinations = len(THINGS) * len(COLOURS)
    if joint_id < combinations:
        return joint_id // len(COLOURS)
    return joint_id - combinations + len(THINGS)


def held_out_combinations(seed: int) -> dict[str, frozenset[Combination]]:
    """Chooses the colour-thing combinations that no training part ever shows.

    The cells (thing, colour) of a 12 x 8 table carry the symbols of a Latin square whose rows and
    columns the seed shuffles. One symbol is held out for val, another for test: 8 combinations
    each (16 of 96), every colour once per split and every thing once or twice in all, so that each
    colour and each thing is still met in at least six combinations.

    Returns:
      `{"val": ..., "test": ...}`, disjoint sets of (colour, thing).
    """
    rng = np.random.default_rng([seed, 1])
    rows, columns = rng.permutation(len(THINGS)), rng.permutation(len(COLOURS))

    def with_symbol(symbol: int) -> frozenset[Combination]:
        return frozenset(
            (colour, thing)
            for row, thing in zip(rows, THINGS, strict=True)
            for column, colour in zip(columns, COLOURS, strict=True)
            if (row - column) % len(THINGS) == symbol
        )

    # Symbols 4 apart: together the two sets touch all twelve things.
    return {"val": with_symbol(0), "test": with_symbol(len(THINGS) - len(COLOURS))}


@dataclasses.dataclass(frozen=True)
class World:
    """What all scenes of one seed share.

    Attributes:
      seed: The seed it was made from.
      colours_hsv: Hue, saturation and value per colour name, 0..1.
      tiles: Texture tile per kind of stuff.
      noise: Sensor noise, added to every picture from a random offset, in grey levels.
      seen: The (colour, thing) combinations of the training parts.
      held_out: The others, per panoptic split.
    """

    seed: int
    colours_hsv: dict[str, tuple[float, float, float]]
    tiles: dict[str, UInt8[np.ndarray, "t t 3"]]
    noise: np.ndarray
    seen: tuple[Combination, ...]
    held_out: dict[str, frozenset[Combination]]

    def colour_rgb(self, colour: str, rng: np.random.Generator) -> np.ndarray:
        """One thing's own shade of a colour: float RGB on 0..255."""
        hue, saturation, value = self.colours_hsv[colour]
        hue = (hue + rng.uniform(-0.012, 0.012)) % 1.0
        saturation = min(1.0, saturation * rng.uniform(0.93, 1.04))
        value = min(1.0, value * rng.uniform(0.93, 1.05))
        return 255.0 * np.asarray(colorsys.hsv_to_rgb(hue, saturation, value))


@functools.lru_cache(maxsize=2)
def make_world(seed: int) -> World:
    """Makes the world of a seed; two seeds differ in tints, textures and unseen combinations."""
    rng = np.random.default_rng([seed, 2])
    colours = {
        name: ((hue + rng.uniform(-0.01, 0.01)) % 1.0, sat * rng.uniform(0.95, 1.0), value)
        for name, (hue, sat, value) in _COLOURS_HSV.items()
    }
    tiles = {
        stuff: textures.make_texture(stuff, np.random.default_rng([seed, 3, index]))
        for index, stuff in enumerate(STUFF)
    }
    noise = rng.normal(0.0, 4.0, (textures.TILE, textures.TILE, 3)).round().astype(np.int16)
    held_out = held_out_combinations(seed)
    unseen = held_out["val"] | held_out["test"]
    seen = tuple(
        (colour, thing) for thing in THINGS for colour in COLOURS if (colour, thing) not in unseen
    )
    return World(seed, colours, tiles, noise, seen, held_out)
