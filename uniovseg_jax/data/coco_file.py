"""COCO's annotation files: the JSON, polygons as COCO draws them, and PNG files of segment ids."""

import importlib.util
import io
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int

from uniovseg_jax.data.mask_sources.source import (
    MAX_IMAGE_BYTES,
    FilePart,
    finite_numbers,
    parse_json,
)
from uniovseg_jax.image_io import open_image
from uniovseg_jax.masks import rle_decode, rle_encode

# COCO's file of 118,287 training images has 0.47 GB.
_MAX_FILE_BYTES = 1 << 32
# Of all edges of a mask's polygons together, in pixels; the outline of a thing has some thousands.
_MAX_OUTLINE = 10**6


def read_coco_json(path: pathlib.Path) -> dict[str, Any]:
    """Reads an annotation file and makes sure that no image is in it twice.

    Returns:
      The document; `images` and `annotations` are lists, whose entries are unchecked.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is not COCO's, names an image twice, or has polygons and pycocotools
        is not installed.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no annotation file {path}.")
    try:
        document = parse_json(FilePart(path).read(_MAX_FILE_BYTES))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(document, dict) or not (
        isinstance(document.get("images"), list) and isinstance(document.get("annotations"), list)
    ):
        raise ValueError(f'{path}: expected an object with lists "images" and "annotations".')
    _check_unique(document["images"], path)
    if _has_polygons(document["annotations"]) and not importlib.util.find_spec("pycocotools"):
        raise ValueError(
            f"{path} holds polygons, which pycocotools draws as COCO does: install it "
            "(pip install pycocotools)."
        )
    return document


def _check_unique(images: list[Any], path: pathlib.Path) -> None:
    seen: dict[str, int] = {}
    for index, entry in enumerate(images):
        image_id = entry.get("id") if isinstance(entry, dict) else None
        if isinstance(image_id, (int, str)):
            image_id = str(image_id)
            if image_id in seen:
                raise ValueError(
                    f"{path}: images[{seen[image_id]}] and images[{index}] have the same id "
                    f"{image_id}."
                )
            seen[image_id] = index


def _has_polygons(annotations: list[Any]) -> bool:
    return any(isinstance(a, dict) and isinstance(a.get("segmentation"), list) for a in annotations)


def find_segments(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder with the PNG files of a panoptic annotation file.

    It has the file's name without `.json` and is beside it or one level up.

    Raises:
      FileNotFoundError: If there is none.
    """
    for parent in (path.parent, path.parent.parent):
        if (parent / path.stem).is_dir():
            return parent / path.stem
    raise FileNotFoundError(
        f"There is no folder {path.stem} with the PNG files of {path.name}, beside it or above."
    )


def draw_polygons(polygons: list[Any], height: int, width: int) -> dict[str, Any]:
    """Returns the union of polygons as run lengths, drawn as COCO does.

    Args:
      polygons: Each `[x0, y0, x1, y1, ...]` in pixels.
      height: Of the image.
      width: Of the image.

    Raises:
      ValueError: If a polygon is malformed, far outside the image or too long.
    """
    from pycocotools import mask as coco_mask

    # The C code trusts what it gets. Its work and memory grow with the length of the edges, and it
    # does not look whether it got that memory.
    limit = 2 * max(height, width)
    for polygon in polygons:
        if not (finite_numbers(polygon) and len(polygon) >= 6 and len(polygon) % 2 == 0):
            raise ValueError("A polygon must be an even number of at least 6 finite numbers.")
        if max(map(abs, polygon)) > limit:
            raise ValueError(f"A polygon reaches far outside of the {height} x {width} image.")
    if not polygons:
        raise ValueError("It has no polygon.")
    # An edge's end points are compared as integers of 32 bits; these stay far below.
    shapes: Any = [list(map(float, polygon)) for polygon in polygons]
    outline = sum(map(_outline, shapes))
    if outline > _MAX_OUTLINE:
        raise ValueError(
            f"Its polygons have an outline of {outline:.0f} pixels, more than {_MAX_OUTLINE}."
        )
    rles = coco_mask.frPyObjects(shapes, height, width)
    union = np.zeros((height, width), bool)
    for rle in rles:
        union |= rle_decode(rle)
    return rle_encode(union)


def _outline(polygon: list[float]) -> float:
    """Returns how many pixels the edges of a closed polygon take, drawn one after the other."""
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    edges = np.diff(corners, axis=0, append=corners[:1])
    return float(np.abs(edges).max(axis=1).sum())


def read_segment_ids(path: pathlib.Path) -> Int[np.ndarray, "h w"]:
    """Reads segment ids from a PNG: R + 256 G + 65536 B; 0 is void.

    Raises:
      ValueError: If it is missing, damaged or of another kind.
    """
    encoded = FilePart(path).read(MAX_IMAGE_BYTES)
    with open_image(io.BytesIO(encoded), path.name) as image:
        kind, pixels = (image.format, image.mode), np.asarray(image)
    if kind not in (("PNG", "RGB"), ("PNG", "RGBA")):
        raise ValueError(f"{path.name} must be a PNG file of 8-bit colours, got {kind}.")
    # In int32 before the factors, which leave 8 bits.
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)[:3]
    return red + 256 * green + 65536 * blue
