"""Polygons that lie one above the other, as WoodScape's do."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from uniovseg_jax.benchmarks.labels.paired_files import PairedFiles
from uniovseg_jax.data.mask_sources.source import MAX_ANNOTATION_BYTES, FilePart
from uniovseg_jax.data.records import MAX_MASKS
from uniovseg_jax.json_fields import parse_json, whole_number
from uniovseg_jax.masks import MAX_AREA, MAX_SIDE, rle_decode, rle_encode
from uniovseg_jax.polygons import draw_polygons, finite_numbers


class OrderedPolygons:
    """WoodScape's masks: what of a polygon no polygon above it hides, whatever their classes.

    A file holds one key, and under it `image_width`, `image_height` and the list `annotation` of
    `{tags, segmentation, z_order}`: one class, corners `[x, y]`, and a height. What is higher is
    nearer, and of equal ones what comes later; annotations of no or several classes are left out,
    both as in the owners' scripts (`parsers/segmentation/image_annotator.py`).

    Attributes:
      images: Image files by id.
    """

    def __init__(self, files: PairedFiles):
        """Takes images and JSON files; each is read when it is asked for."""
        self.images: Mapping[str, pathlib.Path] = files.images
        self._labels = files.labels

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width as the annotation states them.

        Raises:
          ValueError: If the file is missing, damaged or of another kind.
        """
        return self._read(image_id)[0]

    def masks(self, image_id: str) -> tuple[dict[str, Any], ...]:
        """Returns the run lengths of what is visible, in the order of the file.

        Polygons that are hidden or have no area make no mask.

        Raises:
          ValueError: If the file is missing, damaged or of another kind.
        """
        (height, width), entries = self._read(image_id)
        path = self._labels[image_id]
        covered = np.zeros((height, width), bool)
        visible = {}
        try:
            heights = [_height(entry) for entry in entries]
            for index in sorted(range(len(entries)), key=heights.__getitem__)[::-1]:
                whole = draw_polygon(_corners(entries[index]), height, width)
                if (whole & ~covered).any():
                    visible[index] = rle_encode(whole & ~covered)
                covered |= whole
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return tuple(visible[index] for index in sorted(visible))

    def _read(self, image_id: str) -> tuple[tuple[int, int], list[Any]]:
        path = self._labels[image_id]
        try:
            document = parse_json(FilePart(path).read(MAX_ANNOTATION_BYTES))
            values = list(document.values()) if isinstance(document, dict) else []
            if len(values) != 1 or not isinstance(values[0], dict):
                raise ValueError("Expected an object with one key and under it an object.")
            hw = (
                whole_number(values[0], "image_height", high=MAX_SIDE),
                whole_number(values[0], "image_width", high=MAX_SIDE),
            )
            entries = values[0].get("annotation")
            if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
                raise ValueError("'annotation' is no list of objects.")
            if len(entries) > MAX_MASKS or hw[0] * hw[1] > MAX_AREA:
                raise ValueError(f"{len(entries)} polygons on {hw[0]} x {hw[1]} are too many.")
            if not all(isinstance(entry.get("tags"), list) for entry in entries):
                raise ValueError("An annotation has no list 'tags'.")
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return hw, [entry for entry in entries if len(entry["tags"]) == 1]


def draw_polygon(corners: list[int | float], height: int, width: int) -> Bool[np.ndarray, "h w"]:
    """Draws one polygon as COCO does; fewer than three corners have no area.

    Args:
      corners: x and y in turn, in pixels.
      height: Of the image.
      width: Of the image.

    Raises:
      ValueError: If it lies far outside the image or is too long.
    """
    return rle_decode(draw_polygons([corners], height, width))


def _corners(entry: dict[str, Any]) -> list[int | float]:
    corners = entry.get("segmentation")
    if not isinstance(corners, list) or not all(finite_numbers(c) and len(c) == 2 for c in corners):
        raise ValueError("'segmentation' is no list of corners [x, y].")
    return [value for corner in corners for value in corner]


def _height(entry: dict[str, Any]) -> int | float:
    if not finite_numbers([entry.get("z_order")]):
        raise ValueError(f"'z_order' is {str(entry.get('z_order'))[:40]}, expected a number.")
    return entry["z_order"]
