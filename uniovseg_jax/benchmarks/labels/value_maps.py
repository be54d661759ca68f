"""Value maps: PNG files of a few known values, of which each makes one mask."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Int

from uniovseg_jax.benchmarks.labels.instance_maps import InstanceMaps
from uniovseg_jax.benchmarks.labels.paired_files import PairedFiles


class ValueMaps(InstanceMaps):
    """Masks from maps of one channel in which nothing but known values occurs.

    Attributes:
      images: Image files by id.
    """

    def __init__(self, files: PairedFiles, values: Iterable[int]):
        """Takes the files and what occurs in them.

        Args:
          files: Images and PNG files.
          values: Those that make a mask; 0 makes none.
        """
        super().__init__(files)
        self._values = sorted(values)

    def ids(self, image_id: str) -> Int[np.ndarray, "h w"]:
        """Returns the value of every pixel.

        Raises:
          ValueError: If the map is missing, damaged or of another kind, or holds another value.
        """
        values = super().ids(image_id)
        strange = np.setdiff1d(values, [0, *self._values])
        if strange.size:
            raise ValueError(
                f"{self._labels[image_id]} holds the value {strange[0]}; expected 0 and "
                f"{self._values[0]} to {self._values[-1]}."
            )
        return values
