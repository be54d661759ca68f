"""Augmentation of colours and sizes, choice of masks, and prompts or texts that are drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.data.crop import Crop, MaskBlock
from uniovseg_jax.masks import box_from_mask


def jitter_brightness(
    image: UInt8[np.ndarray, "h w 3"], rng: np.random.Generator, strength: float
) -> UInt8[np.ndarray, "h w 3"]:
    """Multiplies by a factor within `1 +- strength` and shifts by up to `64 * strength` levels."""
    factor = rng.uniform(1 - strength, 1 + strength)
    shift = rng.uniform(-64 * strength, 64 * strength)
    table = np.clip(np.arange(256) * factor + shift, 0, 255).astype(np.uint8)
    return table[image]


def jitter_scale(
    image: UInt8[np.ndarray, "s s 3"], scale: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "s s 3"]:
    """Zooms a square image and crops it, or fills it up with its mirror image, to its own size.

    Mirrored content rather than grey: an embedding of the whole image averages the border as well.

    Args:
      image: RGB.
      scale: Zoom, more than 0.5.
      rng: Decides where the crop or the content lies.
    """
    size = image.shape[0]
    scaled = round(size * scale)
    if scaled == size:
        return image
    resample = Image.Resampling.BILINEAR
    zoomed = np.asarray(Image.fromarray(image).resize((scaled, scaled), resample))
    room = abs(scaled - size)
    x, y = rng.integers(0, room + 1, 2)
    if scaled > size:
        return zoomed[y : y + size, x : x + size]
    return np.pad(zoomed, ((y, room - y), (x, room - x), (0, 0)), mode="reflect")


def draw_colours(rng: np.random.Generator) -> Float[np.ndarray, "5"]:
    """Draws a change of colours as `ops.colour.jitter_colours` takes it.

    Brightness by up to 32 levels, contrast and saturation by a factor of 0.5 to 1.5, hue by up to
    a tenth of the circle, each with probability 1/2; contrast comes before or after the last two,
    as chance has it.

    Source: Liu et al., SSD (arXiv 1512.02325), with the constants of Detectron2.
    """
    lows, highs = np.array([[-32, 0.5, 0.5, -0.1], [32, 1.5, 1.5, 0.1]])
    drawn = np.where(rng.random(4) < 0.5, rng.uniform(lows, highs), [0, 1, 1, 0])
    return np.append(drawn, rng.random() < 0.5).astype(np.float32)


def choose_masks(
    rles: Sequence[Any],
    crop: Crop,
    max_instances: int,
    area_range: Sequence[float],
    rng: np.random.Generator,
) -> list[MaskBlock]:
    """Returns a random choice of the masks whose area within a cut is allowed.

    Masks are cut in random order until there are enough: the rest is never decoded.

    Args:
      rles: Run-length masks of the whole image.
      crop: The cut.
      max_instances: Largest number of masks.
      area_range: Smallest and largest share of the cut, both allowed.
      rng: Decides which masks are chosen, and their order.
    """
    chosen = []
    for index in rng.permutation(len(rles)):
        block = crop.cut_mask(rles[index])
        if block is None:
            continue
        area = np.count_nonzero(block.pixels) / crop.size**2
        if area_range[0] <= area <= area_range[1]:
            chosen.append(block)
        if len(chosen) == max_instances:
            break
    return chosen


def pack_masks(
    blocks: Sequence[MaskBlock], count: int, size: int
) -> UInt8[np.ndarray, "{count} {size} {size}//8"]:
    """Returns masks of eight pixels a byte, the first in the highest bit, padded by empty masks.

    Args:
      blocks: At most `count`.
      count: Number of masks.
      size: Side of a mask, a multiple of 8.
    """
    packed = np.zeros((count, size, size // 8), np.uint8)
    for mask, (pixels, top, left) in zip(packed, blocks, strict=False):
        h, w = pixels.shape
        first, shift = divmod(left, 8)
        aligned = np.zeros((h, shift + w), bool)
        aligned[:, shift:] = pixels
        rows = np.packbits(aligned, axis=1)
        mask[top : top + h, first : first + rows.shape[1]] = rows
    return packed


def jittered_points(
    per_side: int, content_wh: tuple[int, int], rng: np.random.Generator
) -> Float[np.ndarray, "q 2"]:
    """Returns a grid of `per_side ** 2` points over the content, each moved within its cell.

    Row-major, (x, y) in pixels; without noise a point sits in the middle of its cell.
    """
    cells = np.arange(per_side) + 0.5
    grid = np.stack(np.meshgrid(cells, cells, indexing="xy"), axis=-1).reshape(-1, 2)
    grid += rng.uniform(-0.5, 0.5, grid.shape)
    limit = np.asarray(content_wh) - 1
    return np.clip(grid / per_side * limit, 0, limit).astype(np.float32)


def draw_boxes(
    blocks: Sequence[MaskBlock], num_boxes: int, rng: np.random.Generator
) -> tuple[
    Float[np.ndarray, "{num_boxes} 4"],
    Int[np.ndarray, " {num_boxes}"],
    Bool[np.ndarray, " {num_boxes}"],
]:
    """Returns the tight boxes of masks, repeated in turn or a random choice, to a fixed number.

    Returns:
      Boxes (x0, y0, x1, y1) in pixels, the index of the mask that each one belongs to, and which
      boxes count: all of them, or none when there is no mask.
    """
    n = len(blocks)
    if not n:
        return (
            np.zeros((num_boxes, 4), np.float32),
            np.zeros(num_boxes, np.int32),
            np.zeros(num_boxes, bool),
        )
    index = np.arange(num_boxes) % n
    if n > num_boxes:
        index = np.sort(rng.choice(n, num_boxes, replace=False))
    boxes = np.stack([_box(block) for block in blocks])
    return boxes[index], index.astype(np.int32), np.ones(num_boxes, bool)


def _box(block: MaskBlock) -> Float[np.ndarray, "4"]:
    corner = np.array([block.left, block.top] * 2, np.float32)
    return box_from_mask(block.pixels) + corner


def draw_phrase(caption: str, rng: np.random.Generator) -> str:
    """Draws an entity of a caption, or as often only its last word, mostly a noun in English.

    A text tower that only sees whole captions in training knows little of lone names, and captions
    told apart by their colours alone teach no nouns. A caption without entities stays as it is.
    """
    entities = parse_rules(caption)
    if not entities:
        return caption
    entity = entities[rng.integers(len(entities))]
    return entity.split()[-1] if rng.random() < 0.5 else entity
