"""Label maps: one value per pixel, from PNG and TIFF files of 8 or 16 bits, or MATLAB's .mat."""

import dataclasses
import functools
import pathlib
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int32

from uniovseg_jax.benchmarks.benchmark import LabelMap
from uniovseg_jax.benchmarks.class_list import VOID
from uniovseg_jax.files import one_line
from uniovseg_jax.image_io import open_image, stored_hw

# What is not scored in most label maps of 8 and of 16 bits.
VOID_8, VOID_16 = 255, 65535
# Pillow's names for one channel of 8 bits, grey or a palette's index, and of 16 bits.
_MODES_8, _MODES_16 = ("L", "P"), ("I;16", "I;16B", "I")
# The array that PASCAL Context has in its files.
_MAT_KEY = "LabelMap"
_UNKNOWN = -2


@dataclasses.dataclass(frozen=True)
class LabelMaps:
    """Label maps of a dataset as indices of its classes.

    Attributes:
      files: Label files by image id.
      index_of: Index of the class by the value in the files.
      void: Values that are not scored; any other is an error.
      sixteen_bit: Whether all files have 16 bits. In 8 bits their values were cut, and may be those
        of other classes.
    """

    files: Mapping[str, pathlib.Path]
    index_of: Mapping[int, int]
    void: Collection[int] = ()
    sixteen_bit: bool = False

    def read(self, image_id: str) -> LabelMap:
        """Reads the map of an image, void pixels as `VOID`.

        Raises:
          ValueError: If the file is missing, damaged, of another kind, or holds a value that is
            neither a class's nor void; names the file and the value.
        """
        path = self.files[image_id]
        values = read_values(path, self.sixteen_bit)
        # Whatever is beyond the table is as unknown as its last entry.
        within = (values >= 0) & (values < len(self._table))
        indices = self._table[np.where(within, values, -1)]
        unknown = values[indices == _UNKNOWN]
        if unknown.size:
            raise ValueError(
                f"{path} holds the value {unknown[0]}, which is neither one of the "
                f"{len(self.index_of)} classes nor void."
            )
        return indices

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of the map of an image, without decoding it.

        Raises:
          ValueError: If the file is missing or no label map.
        """
        path = self.files[image_id]
        _check_there(path)
        return _mat_hw(path) if path.suffix == ".mat" else stored_hw(path)

    @functools.cached_property
    def _table(self) -> Int32[np.ndarray, " values"]:
        table = np.full(max([*self.index_of, *self.void], default=0) + 2, _UNKNOWN, np.int32)
        table[list(self.void)] = VOID
        for value, index in self.index_of.items():
            table[value] = index
        return table


def read_values(path: pathlib.Path, sixteen_bit: bool = False) -> Int32[np.ndarray, "h w"]:
    """Reads the values as they are stored: never scaled to 8 bits, never a palette's colours.

    Args:
      path: A PNG, TIFF or .mat file.
      sixteen_bit: Whether a file of 8 bits is an error.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If it is damaged, or has more than one channel or other bits than expected.
    """
    _check_there(path)
    if path.suffix == ".mat":
        return _read_mat(path)
    with open_image(path, str(path)) as image:
        kind, mode, values = image.format, image.mode, np.asarray(image)
    modes = _MODES_16 if sixteen_bit else _MODES_8 + _MODES_16
    if kind not in ("PNG", "TIFF") or mode not in modes:
        raise ValueError(
            f"{path} is {kind} of mode {mode}; expected a PNG or TIFF file of one channel of "
            f"{'16' if sixteen_bit else '8 or 16'} bits."
        )
    return values.astype(np.int32)


def _check_there(path: pathlib.Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"There is no label file {path}.")


def _read_mat(path: pathlib.Path) -> Int32[np.ndarray, "h w"]:
    from scipy import io

    # scipy raises whatever comes up on damaged files.
    try:
        values = io.loadmat(path, variable_names=[_MAT_KEY]).get(_MAT_KEY)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a .mat file: {one_line(error)}") from error
    if values is None or values.ndim != 2 or values.dtype.kind not in "ui":
        raise ValueError(f"{path} has no map of whole numbers called {_MAT_KEY}.")
    return values.astype(np.int32)


def _mat_hw(path: pathlib.Path) -> tuple[int, int]:
    from scipy import io

    try:
        shapes = {name: shape for name, shape, _ in io.whosmat(path)}
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a .mat file: {one_line(error)}") from error
    if len(shapes.get(_MAT_KEY, ())) != 2:
        raise ValueError(f"{path} has no map of whole numbers called {_MAT_KEY}.")
    height, width = shapes[_MAT_KEY]
    return int(height), int(width)
