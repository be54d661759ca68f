"""Polygons as masks: drawn by pycocotools, after a check of what it would trust."""

import importlib
import math
from typing import Any

import numpy as np

from uniovseg_jax.masks import rle_decode, rle_encode

# Of all edges of a mask's polygons together, in pixels; the outline of a thing has some thousands.
_MAX_OUTLINE = 10**6


def import_pycocotools(module: str) -> Any:
    """Returns a module of pycocotools, `mask` or `cocoeval`.

    Raises:
      ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(f"pycocotools.{module}")
    except ImportError as error:
        raise ImportError(
            "Polygons and AP are left to pycocotools: install it (pip install pycocotools)."
        ) from error


def draw_polygons(polygons: list[Any], height: int, width: int) -> dict[str, Any]:
    """Returns the union of polygons as run lengths, drawn as COCO does.

    Polygons of fewer than three corners, which labelling tools leave behind, are dropped as loaders
    of COCO's files do; if no other is left, the mask is empty.

    Args:
      polygons: Lists of coordinates, x and y in turn, in pixels.
      height: Of the image.
      width: Of the image.

    Raises:
      ValueError: If one is malformed, far outside or endlessly long.
      ImportError: If pycocotools is not installed.
    """
    # The C code trusts what it gets. Its work and memory grow with the length of the edges, and it
    # does not look whether it got that memory.
    limit = 2 * max(height, width)
    for polygon in polygons:
        if not finite_numbers(polygon) or (len(polygon) >= 6 and len(polygon) % 2):
            raise ValueError("A polygon must be an even number of finite numbers.")
        if max(map(abs, polygon), default=0) > limit:
            raise ValueError(f"A polygon reaches far outside of the {height} x {width} image.")
    # An edge's end points are compared as integers of 32 bits; these stay far below.
    shapes: Any = [list(map(float, polygon)) for polygon in polygons if len(polygon) >= 6]
    outline = sum(map(_outline, shapes))
    if outline > _MAX_OUTLINE:
        raise ValueError(
            f"Its polygons have an outline of {outline:.0f} pixels, more than {_MAX_OUTLINE}."
        )
    union = np.zeros((height, width), bool)
    # With nothing to draw it would fail.
    rles = import_pycocotools("mask").frPyObjects(shapes, height, width) if shapes else []
    for rle in rles:
        union |= rle_decode(rle)
    return rle_encode(union)


def _outline(polygon: list[float]) -> float:
    """Returns how many pixels the edges of a closed polygon take, drawn one after the other."""
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    edges = np.diff(corners, axis=0, append=corners[:1])
    return float(np.abs(edges).max(axis=1).sum())


def finite_numbers(values: Any) -> bool:
    """Says whether it is a list of finite numbers."""
    return isinstance(values, list) and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < math.inf
        for v in values
    )
