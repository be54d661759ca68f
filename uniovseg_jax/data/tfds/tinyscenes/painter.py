"""Turns a placed thing into pixels: an anti-aliased coloured patch and a map of its parts."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from uniovseg_jax.data.tfds.tinyscenes.shapes import PAINTS, SHAPES


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where and how a thing is drawn.

    Attributes:
      noun: One of `world.THINGS`.
      colour: One of `world.COLOURS`.
      rgb: Its own shade of that colour, 0..255.
      matrix: Maps the unit frame to pixels (scale, rotation, mirror, stretch).
      centre_xy: Pixels.
    """

    noun: str
    colour: str
    rgb: Float[np.ndarray, "3"]
    matrix: Float[np.ndarray, "2 2"]
    centre_xy: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Patch:
    """A drawn thing, cropped to its box inside the picture.

    Attributes:
      window: Rows and columns of the picture that the patch covers.
      rgba: Colours and coverage.
      labels: 1 + index in `part_names(noun)` per pixel, 0 outside the thing.
    """

    window: tuple[slice, slice]
    rgba: UInt8[np.ndarray, "h w 4"]
    labels: UInt8[np.ndarray, "h w"]


def part_names(noun: str) -> tuple[str, ...]:
    """Names of a thing's parts in the order of `Patch.labels`."""
    return tuple(dict.fromkeys(polygon.part for polygon in SHAPES[noun]))


@functools.cache
def unit_area(noun: str) -> float:
    """Area of a thing's silhouette in its unit frame, by counting on a fine raster."""
    per_unit, side = 64, 256
    raster = Image.new("1", (side, side))
    draw = ImageDraw.Draw(raster)
    for polygon in SHAPES[noun]:
        draw.polygon((polygon.points * per_unit + side / 2).ravel().tolist(), fill=1)
    return float(np.asarray(raster).sum()) / per_unit**2


def draw_patch(placement: Placement, side: int) -> Patch | None:
    """Draws one thing into a `side` x `side` picture; None when it lies outside altogether."""
    polygons = SHAPES[placement.noun]
    outlines = [p.points @ placement.matrix.T + placement.centre_xy for p in polygons]
    everything = np.concatenate(outlines)
    low = np.maximum(np.floor(everything.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(everything.max(0)).astype(int) + 1, side)
    if np.any(high <= low):
        return None
    width, height = (high - low).tolist()
    # Polygon indices at twice the resolution: halving them gives smooth edges, and every second
    # pixel gives the masks, which so agree with the picture to half a pixel.
    indices = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(indices)
    for index, outline in enumerate(outlines, start=1):
        draw.polygon(((outline - low) * 2.0).ravel().tolist(), fill=index)
    double = np.asarray(indices)
    names = part_names(placement.noun)
    paints = np.zeros((len(polygons) + 1, 4), np.uint8)
    parts = np.zeros(len(polygons) + 1, np.uint8)
    for index, polygon in enumerate(polygons, start=1):
        rgb = placement.rgb if polygon.paint == "main" else np.asarray(PAINTS[polygon.paint])
        paints[index] = [*_shade(rgb, polygon.shade), 255]
        parts[index] = names.index(polygon.part) + 1
    # One 32-bit look-up per pixel in place of four 8-bit ones.
    rgba = np.take(paints.view(np.uint32).ravel(), double).view(np.uint8)
    rgba = np.asarray(Image.fromarray(rgba.reshape(*double.shape, 4)).reduce(2))
    window = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    return Patch(window, rgba, np.take(parts, double[::2, ::2]))


def _shade(rgb: np.ndarray, shade: float) -> np.ndarray:
    # A dark colour has no room below it and a light one none above: keep the facets visible.
    if shade < 1.0 and rgb.mean() < 60:
        return np.clip(rgb + (1.0 - shade) * 110, 0, 255)
    if shade > 1.0:
        return np.clip(rgb + (shade - 1.0) * 160, 0, 255)
    return rgb * shade


def blend(
    canvas: UInt8[np.ndarray, "s s 3"],
    patch: Patch,
    light_xy: tuple[float, float],
    strength: float,
) -> None:
    """Lays a patch over the canvas in place, brighter on the side that faces the light."""
    height, width = patch.labels.shape
    across = np.linspace(-1.0, 1.0, width, dtype=np.float32) * light_xy[0]
    down = np.linspace(-1.0, 1.0, height, dtype=np.float32) * light_xy[1]
    shading = 1.0 + strength * (across[None, :] + down[:, None])
    colour = np.minimum(patch.rgba[..., :3] * shading[..., None], 255.0)
    alpha = patch.rgba[..., 3:].astype(np.float32) / 255.0
    under = canvas[patch.window]
    canvas[patch.window] = under + (colour - under) * alpha
