"""COCO's annotation files: the JSON, and PNG files of segment ids."""

import importlib.util
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int

from uniovseg_jax.data.mask_sources.source import MAX_IMAGE_BYTES, FilePart
from uniovseg_jax.image_io import read_segment_ids
from uniovseg_jax.json_fields import finite_number, parse_json, read_flag

# Ids of segments are the three channels of a pixel.
MAX_SEGMENT_ID = (1 << 24) - 1
# COCO's file of 118,287 training images has 0.47 GB.
_MAX_FILE_BYTES = 1 << 32


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


def read_area(entry: dict[str, Any]) -> float:
    """Returns the area that an annotation states, in pixels; polygons' are fractions.

    Raises:
      ValueError: If it is no finite number of 0 or more.
    """
    area = finite_number(entry, "area")
    if area < 0:
        raise ValueError(f"'area' is {area:g}, expected a number of pixels, at least 0.")
    return area


def read_iscrowd(entry: dict[str, Any]) -> bool:
    """Returns whether an annotation is a region of uncounted objects; it is not where none says so.

    Raises:
      ValueError: If it is neither 0 nor 1.
    """
    return read_flag(entry, "iscrowd", 0)


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


def read_panoptic_png(path: pathlib.Path) -> Int[np.ndarray, "h w"]:
    """Reads the segment ids of a PNG file, see `image_io.read_segment_ids`.

    Raises:
      ValueError: If it is missing, damaged or of another kind.
    """
    return read_segment_ids(FilePart(path).read(MAX_IMAGE_BYTES), path.name)
