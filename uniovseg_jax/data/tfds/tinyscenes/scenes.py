"""Scenes: stuff regions under things that occlude one another, with every true mask.

A scene depends on (seed, part, split, index) alone, so it can be rendered in any order and by any
process, and no two parts share a random stream.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, UInt8

from uniovseg_jax.data.tfds.tinyscenes import painter
from uniovseg_jax.data.tfds.tinyscenes.shapes import DEFAULT_ROTATION, MAX_ROTATION
from uniovseg_jax.data.tfds.tinyscenes.textures import TILE
from uniovseg_jax.data.tfds.tinyscenes.world import STUFF, Combination, World, make_world

PARTS = ("web", "image_mask", "image_text", "panoptic")
SPLITS = ("train", "val", "test")
SCENE_SIDE = 256
WEB_SIDE = 128
# Of the things in panoptic scenes; the eight unseen combinations of a split then get as many
# segments each as they need for a stable IoU, against 1 in 12 if drawn evenly.
UNSEEN_SHARE = 0.3
# A thing repeats the combination of another one this often: captions then say "two red balls".
REPEAT_SHARE = 0.08
# A thing that others cover down to less than this is taken out of the scene.
MIN_VISIBLE_PX = 400
# A smaller sliver of a part or of a region is no mask (and, in panoptic truth, void).
MIN_MASK_PX = 40


@dataclasses.dataclass(frozen=True)
class Thing:
    """A visible thing and the names of its parts."""

    noun: str
    colour: str
    part_names: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its entry in the joint vocabulary."""
        return f"{self.colour} {self.noun}"


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and its truth.

    Attributes:
      image: RGB.
      things: The visible things, from back to front.
      stuff: Names of the regions.
      owner: 1 + index of the thing at a pixel, 0 where stuff shows.
      part: 1 + index in that thing's `part_names`, 0 where stuff shows.
      region: Index in `stuff` at a pixel, also under things.
    """

    image: UInt8[np.ndarray, "s s 3"]
    things: tuple[Thing, ...]
    stuff: tuple[str, ...]
    owner: UInt8[np.ndarray, "s s"]
    part: UInt8[np.ndarray, "s s"]
    region: UInt8[np.ndarray, "s s"]

    def thing_mask(self, index: int) -> Bool[np.ndarray, "s s"]:
        """Visible pixels of one thing."""
        return self.owner == index + 1

    def part_mask(self, index: int, part_index: int) -> Bool[np.ndarray, "s s"]:
        """Visible pixels of one part of one thing."""
        return (self.owner == index + 1) & (self.part == part_index + 1)

    def stuff_mask(self, index: int) -> Bool[np.ndarray, "s s"]:
        """Visible pixels of one region."""
        return (self.region == index) & (self.owner == 0)


def scene_rng(seed: int, part: str, split: str, index: int) -> np.random.Generator:
    """The random stream that makes one scene (and then its captions)."""
    return np.random.default_rng([seed, 16 + PARTS.index(part), SPLITS.index(split), index])


def make_scene(seed: int, part: str, split: str, rng: np.random.Generator) -> Scene:
    """Renders the scene that `rng` (from `scene_rng`) stands for.

    Args:
      seed: The world.
      part: One of `PARTS`: `web` gives 128 px pictures of one or two things, the others 256 px
        scenes of two to six.
      split: In `panoptic`, the split whose unseen combinations may occur.
      rng: Is advanced.
    """
    world = make_world(seed)
    side = WEB_SIDE if part == "web" else SCENE_SIDE
    count_range = (1, 2) if part == "web" else (2, 6)
    region, stuff = _draw_regions(rng, side, max_regions=2 if part == "web" else 3)
    while True:
        count = int(rng.integers(count_range[0], count_range[1] + 1))
        combinations = _draw_combinations(rng, world, count, part, split)
        placements = _place(rng, world, combinations, side)
        patches = [painter.draw_patch(placement, side) for placement in placements]
        kept, owner, part_map = _settle(patches, side)
        if len(kept) >= count_range[0]:
            break
    canvas = _paint_stuff(rng, world, region, stuff)
    light = rng.uniform(0, 2 * np.pi)
    light_xy, strength = (float(np.cos(light)), float(np.sin(light))), rng.uniform(0.05, 0.18)
    for index in kept:
        patch = patches[index]
        assert patch is not None
        painter.blend(canvas, patch, light_xy, strength)
    image = _expose(rng, world, canvas)
    things = tuple(
        Thing(p.noun, p.colour, painter.part_names(p.noun)) for p in (placements[i] for i in kept)
    )
    return Scene(image, things, stuff, owner, part_map, region)


def _draw_combinations(
    rng: np.random.Generator, world: World, count: int, part: str, split: str
) -> list[Combination]:
    unseen = sorted(world.held_out[split]) if part == "panoptic" else []
    chosen: list[Combination] = []
    for _ in range(count):
        if chosen and rng.random() < REPEAT_SHARE:
            chosen.append(chosen[int(rng.integers(len(chosen)))])
        elif unseen and rng.random() < UNSEEN_SHARE:
            chosen.append(unseen[int(rng.integers(len(unseen)))])
        else:
            chosen.append(world.seen[int(rng.integers(len(world.seen)))])
    return chosen


def _place(
    rng: np.random.Generator, world: World, combinations: list[Combination], side: int
) -> list[painter.Placement]:
    count = len(combinations)
    # Pixels of a whole silhouette. Web pictures use the same scale as scenes.
    if side == WEB_SIDE:
        smallest, largest = (3200.0, 10500.0) if count == 1 else (3200.0, 7000.0)
    else:
        smallest, largest = (4600.0, 14000.0) if count <= 4 else (4600.0, 10000.0)
    placements: list[painter.Placement] = []
    circles: list[tuple[float, float, float]] = []
    for colour, noun in combinations:
        area = float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))
        radius = np.sqrt(area / np.pi)
        x, y = _free_spot(rng, circles, radius, side)
        circles.append((x, y, radius))
        limit = MAX_ROTATION.get(noun, DEFAULT_ROTATION)
        angle = np.radians(rng.uniform(-limit, limit))
        stretch = np.exp(rng.uniform(-0.12, 0.12))
        mirror = rng.choice((-1.0, 1.0))
        scale = np.sqrt(area / painter.unit_area(noun))
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = scale * rotation @ np.diag([mirror * stretch, 1.0 / stretch])
        placements.append(
            painter.Placement(noun, colour, world.colour_rgb(colour, rng), matrix, (x, y))
        )
    return placements


def _free_spot(
    rng: np.random.Generator, circles: list[tuple[float, float, float]], radius: float, side: int
) -> tuple[float, float]:
    """The least crowded of a few random spots: things overlap, but seldom bury one another."""
    margin = min(0.75 * radius, 0.46 * side)
    spots = rng.uniform(margin, side - margin, (10, 2)).tolist()

    def crowding(spot: list[float]) -> float:
        overlaps = (radius + r - np.hypot(spot[0] - x, spot[1] - y) for x, y, r in circles)
        return float(sum(max(0.0, overlap) for overlap in overlaps))

    best = min(spots, key=crowding)
    return best[0], best[1]


def _settle(
    patches: list[painter.Patch | None], side: int
) -> tuple[list[int], UInt8[np.ndarray, "s s"], UInt8[np.ndarray, "s s"]]:
    """Stacks the label maps and takes out what is hardly visible (which uncovers others)."""
    kept = [index for index, patch in enumerate(patches) if patch is not None]
    while True:
        owner, part = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
        for rank, index in enumerate(kept, start=1):
            patch = patches[index]
            assert patch is not None
            inside = patch.labels > 0
            owner[patch.window][inside] = rank
            part[patch.window][inside] = patch.labels[inside]
        visible = np.bincount(owner.ravel(), minlength=len(kept) + 1)[1:]
        if visible.size == 0 or visible.min() >= MIN_VISIBLE_PX:
            return kept, owner, part
        del kept[int(visible.argmin())]


def _draw_regions(
    rng: np.random.Generator, side: int, max_regions: int
) -> tuple[UInt8[np.ndarray, "s s"], tuple[str, ...]]:
    """Cuts the picture by wavy, roughly parallel borders."""
    shares = (0.75, 0.25) if max_regions == 2 else (0.3, 0.45, 0.25)
    count = 1 + int(rng.choice(len(shares), p=shares))
    stuff = tuple(STUFF[index] for index in rng.permutation(len(STUFF))[:count])
    region = np.zeros((side, side), np.uint8)
    # Mostly one above the other, as ground and sky are; any direction now and then.
    angle = rng.normal(0.0, 0.25) if rng.random() < 0.75 else rng.uniform(0, 2 * np.pi)
    along = np.arange(side, dtype=np.float32) / side - 0.5
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    depth = cosine * along[:, None] + sine * along[None, :]
    for border in range(1, count):
        level = border / count - 0.5 + rng.uniform(-0.1, 0.1)
        offset = depth - np.float32(level)
        for frequency in (rng.uniform(4, 12), rng.uniform(16, 32)):
            amplitude = rng.uniform(0.1, 0.35) / frequency
            # sin(f (x cos - y sin) + phase), as two outer products: no sine per pixel.
            across = frequency * cosine * along + rng.uniform(0, 2 * np.pi)
            down = frequency * sine * along
            offset += np.outer(np.cos(down), amplitude * np.sin(across))
            offset -= np.outer(np.sin(down), amplitude * np.cos(across))
        region[offset > 0] = border
    return region, stuff


def _paint_stuff(
    rng: np.random.Generator, world: World, region: np.ndarray, stuff: tuple[str, ...]
) -> UInt8[np.ndarray, "s s 3"]:
    side = len(region)
    canvas = np.empty((side, side, 3), np.uint8)
    for index, name in enumerate(stuff):
        top, left = rng.integers(0, TILE - side, 2)
        window = world.tiles[name][top : top + side, left : left + side]
        if rng.random() < 0.5:
            window = window[:, ::-1]
        np.copyto(canvas, window, where=(region == index)[..., None])
    return canvas


def _expose(
    rng: np.random.Generator, world: World, canvas: UInt8[np.ndarray, "s s 3"]
) -> UInt8[np.ndarray, "s s 3"]:
    """Exposure and sensor noise of one picture."""
    side = len(canvas)
    top, left = rng.integers(0, TILE - side, 2)
    noise = world.noise[top : top + side, left : left + side]
    exposed = canvas * np.float32(rng.uniform(0.88, 1.08))
    return np.clip(exposed + noise, 0, 255).astype(np.uint8)
