"""Instance maps: PNG files in which every pixel holds the number of its object."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from uniovseg_jax.benchmarks.labels.paired_files import PairedFiles
from uniovseg_jax.data.coco_file import read_panoptic_png
from uniovseg_jax.data.mask_sources.source import MAX_IMAGE_BYTES, FilePart
from uniovseg_jax.data.records import MAX_MASKS
from uniovseg_jax.image_io import read_labels, stored_hw
from uniovseg_jax.masks import rle_encode


class InstanceMaps:
    """Masks from maps of one channel (8 or 16 bits), or of a class and a number.

    Attributes:
      images: Image files by id.
    """

    def __init__(self, files: PairedFiles, with_classes: bool = False):
        """Takes the files; each is read when it is asked for.

        Args:
          files: Images and PNG files.
          with_classes: The files are RGB, as ADE20K's: red is a class and green the number of an
            object, of which neither is 0.
        """
        self.images: Mapping[str, pathlib.Path] = files.images
        self._labels, self._with_classes = files.labels, with_classes

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of an image's map.

        Raises:
          FileNotFoundError: If it is missing.
          ValueError: If it is no image.
        """
        return stored_hw(self._labels[image_id])

    def masks(self, image_id: str) -> tuple[dict[str, Any], ...]:
        """Returns the run lengths of every object, in the order of their numbers.

        Raises:
          ValueError: If the map is missing, damaged, of another kind or no map of objects.
        """
        ids = self.ids(image_id)
        numbers = np.unique(ids[ids > 0])
        if numbers.size > MAX_MASKS:
            raise ValueError(
                f"{self._labels[image_id]} holds {numbers.size} objects, more than {MAX_MASKS}; "
                "is it an instance map?"
            )
        return tuple(rle_encode(ids == number) for number in numbers)

    def ids(self, image_id: str) -> Int[np.ndarray, "h w"]:
        """Returns the object of every pixel, 0 for none; with classes 256 red + green.

        Raises:
          ValueError: If the map is missing, damaged or of another kind.
        """
        path = self._labels[image_id]
        if not self._with_classes:
            return read_labels(FilePart(path).read(MAX_IMAGE_BYTES), str(path))
        colours = read_panoptic_png(path)
        red, green = colours & 255, colours >> 8 & 255
        return np.where((red > 0) & (green > 0), 256 * red + green, 0)
