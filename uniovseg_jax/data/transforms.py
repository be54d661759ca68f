"""Augmentation: geometry moves image and masks together, then prompts or texts are drawn."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from uniovseg_jax.captions.parse import parse_rules
from uniovseg_jax.masks import box_from_mask

PADDING = 128


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


def scale_and_crop(
    image: UInt8[np.ndarray, "h w 3"],
    masks: Bool[np.ndarray, "n h w"],
    size: int,
    scale: float,
    offset: float,
    flip: bool,
) -> tuple[
    UInt8[np.ndarray, "{size} {size} 3"], Bool[np.ndarray, "n {size} {size}"], tuple[int, int]
]:
    """Fits the image into a square of `scale * size`, then crops or pads it to `size`.

    Args:
      image: RGB.
      masks: At the image's size; they move with it.
      size: Side of the result.
      scale: Factor beyond the plain fit.
      offset: Position of the crop in [0, 1], for both axes, where the scaled image is larger.
      flip: Mirror left to right first.

    Returns:
      Image (padding of 128 at the right and the bottom), masks, and width and height of the
      part that is image.
    """
    if flip:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    h, w = image.shape[:2]
    zoom = scale * size / max(h, w)
    scaled_h, scaled_w = max(1, round(h * zoom)), max(1, round(w * zoom))
    y0 = round(offset * max(0, scaled_h - size))
    x0 = round(offset * max(0, scaled_w - size))
    content_h, content_w = min(size, scaled_h), min(size, scaled_w)

    # Only the part that stays is resampled.
    box = (x0 * w / scaled_w, y0 * h / scaled_h)
    box += ((x0 + content_w) * w / scaled_w, (y0 + content_h) * h / scaled_h)
    content = Image.fromarray(np.ascontiguousarray(image)).resize(
        (content_w, content_h), Image.Resampling.BILINEAR, box=box
    )
    result = np.full((size, size, 3), PADDING, np.uint8)
    result[:content_h, :content_w] = np.asarray(content)

    rows = np.minimum(((np.arange(content_h) + y0 + 0.5) * h / scaled_h).astype(int), h - 1)
    columns = np.minimum(((np.arange(content_w) + x0 + 0.5) * w / scaled_w).astype(int), w - 1)
    moved = np.zeros((len(masks), size, size), bool)
    moved[:, :content_h, :content_w] = np.take(np.take(masks, rows, axis=1), columns, axis=2)
    return result, moved, (content_w, content_h)


def choose_masks(
    masks: Bool[np.ndarray, "n h w"],
    max_instances: int,
    area_range: Sequence[float],
    rng: np.random.Generator,
) -> tuple[Bool[np.ndarray, "{max_instances} h w"], Bool[np.ndarray, " {max_instances}"]]:
    """Keeps a random choice of masks of allowed area, padded to a fixed number.

    Args:
      masks: Binary masks.
      max_instances: Number of slots.
      area_range: Smallest and largest share of the image, both allowed.
      rng: Decides which masks stay, and their order.

    Returns:
      Masks, and which slots are filled (the first ones).
    """
    areas = masks.mean(axis=(1, 2)) if len(masks) else np.zeros(0)
    allowed = np.flatnonzero((areas >= area_range[0]) & (areas <= area_range[1]))
    chosen = rng.permutation(allowed)[:max_instances]
    padded = np.zeros((max_instances, *masks.shape[1:]), bool)
    padded[: len(chosen)] = masks[chosen]
    return padded, np.arange(max_instances) < len(chosen)


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


def boxes_of_masks(
    masks: Bool[np.ndarray, "n h w"], valid: Bool[np.ndarray, " n"], num_boxes: int
) -> tuple[
    Float[np.ndarray, "{num_boxes} 4"],
    Int[np.ndarray, " {num_boxes}"],
    Bool[np.ndarray, " {num_boxes}"],
]:
    """Returns the boxes of valid masks, repeated in turn (or the first ones) to a fixed number.

    Returns:
      Boxes (x0, y0, x1, y1) in pixels, the index of the mask that each one belongs to, and which
      boxes count: all of them, or none when there is no valid mask.
    """
    slots = np.flatnonzero(valid)
    if not len(slots):
        return (
            np.zeros((num_boxes, 4), np.float32),
            np.zeros(num_boxes, np.int32),
            np.zeros(num_boxes, bool),
        )
    index = slots[np.arange(num_boxes) % len(slots)]
    boxes = np.zeros((len(masks), 4), np.float32)
    for slot in slots[:num_boxes]:
        boxes[slot] = box_from_mask(masks[slot])
    return boxes[index], index.astype(np.int32), np.ones(num_boxes, bool)


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
