"""Polygons of the VGG Image Annotator (VIA), each a mask of its own."""

import pathlib
from collections.abc import Mapping
from typing import Any

from uniovseg_jax.benchmarks.labels.polygons import draw_polygon
from uniovseg_jax.data.mask_sources.folder import IMAGE_SUFFIXES, by_stem
from uniovseg_jax.data.mask_sources.source import FilePart, is_plain_name
from uniovseg_jax.image_io import image_hw
from uniovseg_jax.json_fields import parse_json
from uniovseg_jax.masks import rle_encode
from uniovseg_jax.polygons import finite_numbers

# VIA can keep the images themselves in its file.
_MAX_FILE_BYTES = 1 << 30


class ViaPolygons:
    """The polygons of a file of the VGG Image Annotator; each is one mask.

    The file is an object with an entry per image, `{filename, regions}`. Regions are a list or an
    object of `{shape_attributes: {name, all_points_x, all_points_y}}`; only those named `polygon`
    count, if they have three corners or more.

    Attributes:
      images: Image files by id, the stem of the file's name.
    """

    def __init__(self, json_path: pathlib.Path, image_folder: pathlib.Path):
        """Reads the file.

        Raises:
          FileNotFoundError: If the file or the folder is not there.
          ValueError: If the file is not VIA's, or does not name the images of the folder.
        """
        self._path = json_path
        self._regions: dict[str, list[Any]] = {}
        named = {}
        for entry in read_via(json_path).values():
            name, regions = entry["filename"], entry["regions"]
            image_id = pathlib.PurePath(name).stem
            if image_id in named:
                raise ValueError(f"{json_path} has two entries for {image_id}.")
            named[image_id] = name
            self._regions[image_id] = list(
                regions.values() if isinstance(regions, dict) else regions
            )
        self.images: Mapping[str, pathlib.Path] = by_stem(image_folder, IMAGE_SUFFIXES)
        unpaired = sorted(self.images.keys() ^ named.keys())
        if unpaired:
            raise ValueError(
                f"{unpaired[0]} is either in {json_path} or in {image_folder}; expected it, and "
                f"{len(unpaired) - 1} others, in both."
            )

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of the image, which the file does not state.

        Raises:
          FileNotFoundError: If the image is missing.
          ValueError: If it is none.
        """
        return image_hw(self.images[image_id])

    def masks(self, image_id: str) -> tuple[dict[str, Any], ...]:
        """Returns the run lengths of every polygon that has a pixel.

        Raises:
          ValueError: If the image is missing or a region is malformed.
        """
        height, width = self.hw(image_id)
        masks = []
        for index, region in enumerate(self._regions[image_id]):
            try:
                mask = draw_polygon(_via_corners(region), height, width)
            except ValueError as error:
                raise ValueError(f"{self._path}: {image_id}, region {index}: {error}") from error
            if mask.any():
                masks.append(rle_encode(mask))
        return tuple(masks)


def read_via(path: pathlib.Path) -> dict[str, Any]:
    """Reads a file of the VGG Image Annotator.

    Returns:
      Its entries; `filename` of each is a plain name and `regions` a list or an object.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is none of VIA's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no annotation file {path}.")
    try:
        document = parse_json(FilePart(path).read(_MAX_FILE_BYTES))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(document, dict) or not all(map(_is_via_entry, document.values())):
        raise ValueError(f"{path}: expected an object of entries with 'filename' and 'regions'.")
    return document


def _is_via_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and is_plain_name(entry.get("filename"))
        and isinstance(entry.get("regions"), (dict, list))
    )


def _via_corners(region: Any) -> list[int | float]:
    """Returns x and y in turn; nothing for what is no polygon."""
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        raise ValueError("It has no object 'shape_attributes'.")
    if shape.get("name") != "polygon":
        return []
    x: Any = shape.get("all_points_x")
    y: Any = shape.get("all_points_y")
    if not (finite_numbers(x) and finite_numbers(y) and len(x) == len(y)):
        raise ValueError("'all_points_x' and 'all_points_y' must be as many finite numbers.")
    return [value for corner in zip(x, y, strict=True) for value in corner]
