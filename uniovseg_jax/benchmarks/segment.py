"""What a panoptic map consists of, true or predicted."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Integer

# The id of pixels of no segment.
VOID_ID = 0


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
      id: Its positive number in the map.
      category: Class index, 0..num_classes-1.
      area: Pixels. Of ground truth, the area that its annotation states (which may differ from the
        pixels in the map); None counts the map. Of predictions it is always counted.
      iscrowd: A ground-truth region of uncounted objects.
    """

    id: int
    category: int
    area: int | float | None = None
    iscrowd: bool = False


def paint_classes(
    ids: Integer[np.ndarray, "h w"], segments: Sequence[Segment]
) -> Int32[np.ndarray, "h w"]:
    """Returns the class of every pixel of a map whose segments are all listed; void is -1."""
    known = np.array([VOID_ID, *(segment.id for segment in segments)])
    classes = np.array([-1, *(segment.category for segment in segments)], np.int32)
    order = np.argsort(known)
    return classes[order][np.searchsorted(known[order], ids)]
