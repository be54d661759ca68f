"""What COCO's JSON form says about regions of a map of numbers."""

from typing import Any

import numpy as np
from jaxtyping import Integer
from scipy import ndimage

from uniovseg_jax.benchmarks.class_list import ClassList


def describe_regions(numbers: Integer[np.ndarray, "h w"]) -> dict[int, dict[str, Any]]:
    """Returns `area` and `bbox` (x, y, width, height) in pixels for every number, ascending.

    Args:
      numbers: From 0 to some ten thousand.
    """
    areas = np.bincount(numbers.ravel())
    # find_objects leaves 0 out.
    boxes: Any = ndimage.find_objects(numbers.astype(np.int32) + 1)
    found = {}
    for number in np.flatnonzero(areas).tolist():
        rows, columns = boxes[number]
        size = [columns.stop - columns.start, rows.stop - rows.start]
        found[number] = {
            "area": int(areas[number]),
            "bbox": [columns.start, rows.start, *size],
        }
    return found


def describe_classes(classes: ClassList, by: str) -> list[dict[str, Any]]:
    """Returns the categories of a panoptic JSON file; `by` is what numbers them: `id`, `index`."""
    return [
        {
            "id": info.id if by == "id" else index,
            "name": info.name,
            "isthing": int(bool(info.isthing)),
            "color": list(info.color or ()),
        }
        for index, info in enumerate(classes.classes)
    ]
