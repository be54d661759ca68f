"""The way of mask logits back to the image's own size.

A hundred masks of a 12-megapixel image would take 5 GB as floats. Results need them only once, so
they are produced in blocks of rows, or mask by mask.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from uniovseg_jax.ops.resize import resize_bilinear_numpy
from uniovseg_jax.packed_masks import PackedMasks

_BLOCK_BYTES = 1 << 26
_COLUMNS_PER_PRODUCT = 128


@dataclasses.dataclass(frozen=True)
class FullSizeLogits:
    """Logits of masks, resized on demand as the released code resizes them.

    Three steps become one: bilinear from the logits' own size to the network input, crop of the
    padding, bilinear to the image (half-pixel centres, no antialiasing).

    Attributes:
      mask_logits: Logits as the model gives them, usually at stride 4 of the network input.
      input_hw: Size of the network input in pixels.
      content_hw: Its part, at the top left, that the image fills.
      image_hw: Size of the image.
    """

    mask_logits: Float[np.ndarray, "n h w"]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]
    image_hw: tuple[int, int]

    @classmethod
    def at_own_size(cls, mask_logits: Float[np.ndarray, "n h w"]) -> "FullSizeLogits":
        """Wraps logits that have the image's size already, such as true masks."""
        hw = (mask_logits.shape[1], mask_logits.shape[2])
        return cls(mask_logits, hw, hw, hw)

    @functools.cached_property
    def _matrices(self) -> tuple[Float[np.ndarray, "h2 h"], Float[np.ndarray, "w2 w"]]:
        h, w = self.mask_logits.shape[1:]
        return (
            _axis_matrix(h, self.input_hw[0], self.content_hw[0], self.image_hw[0]),
            _axis_matrix(w, self.input_hw[1], self.content_hw[1], self.image_hw[1]),
        )

    def __len__(self) -> int:
        """Returns the number of masks."""
        return len(self.mask_logits)

    def select(self, indices: np.ndarray) -> "FullSizeLogits":
        """Returns the masks of these indices."""
        return dataclasses.replace(self, mask_logits=self.mask_logits[indices])

    def row_blocks(self) -> Iterator[tuple[slice, Float[np.ndarray, "n rows w"]]]:
        """Yields the logits of all masks in blocks of rows, with the rows they belong to."""
        rows, columns = self._matrices
        height, width = self.image_hw
        step = max(1, _BLOCK_BYTES // (4 * width * max(1, len(self))))
        for start in range(0, height, step):
            block = slice(start, min(start + step, height))
            yield block, _resize_block(self.mask_logits, rows[block], columns)

    def mask(self, index: int) -> Float[np.ndarray, "h w"]:
        """Returns the logits of one mask."""
        return _resize_block(self.mask_logits[index : index + 1], *self._matrices)[0]

    def packed(self) -> PackedMasks:
        """Returns the masks, a pixel inside where its logit is >= 0, as bits."""
        height, width = self.image_hw
        packed = np.empty((len(self), height, -(-width // 8)), np.uint8)
        for rows, block in self.row_blocks():
            packed[:, rows] = np.packbits(block >= 0, axis=-1)
        return PackedMasks.from_bytes(packed, width)


def _axis_matrix(cells: int, side: int, content: int, size: int) -> Float[np.ndarray, "size cells"]:
    """Returns the matrix that takes one axis from `cells` by way of `side` and `content` to `size`.

    The two factors are never multiplied in full: each row of the second one has two weights.
    """
    up = resize_bilinear_numpy(np.eye(cells, dtype=np.float32)[None], (side, cells))[0]
    position = np.clip((np.arange(size) + 0.5) * (content / size) - 0.5, 0, content - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, content - 1)
    fraction = (position - low).astype(np.float32)[:, None]
    return (1 - fraction) * up[low] + fraction * up[high]


def _resize_block(
    logits: Float[np.ndarray, "n h w"],
    rows: Float[np.ndarray, "r h"],
    columns: Float[np.ndarray, "w2 w"],
) -> Float[np.ndarray, "n r w2"]:
    """Applies both matrices; a few columns of the result need only a few cells of the logits."""
    needed = np.flatnonzero(rows.any(axis=0))
    first, last = needed[0], needed[-1] + 1
    narrow = rows[:, first:last] @ np.asarray(logits[:, first:last], np.float32)
    out = np.empty((len(logits), len(rows), len(columns)), np.float32)
    for start in range(0, len(columns), _COLUMNS_PER_PRODUCT):
        part = columns[start : start + _COLUMNS_PER_PRODUCT]
        needed = np.flatnonzero(part.any(axis=0))
        first, last = needed[0], needed[-1] + 1
        product = narrow[..., first:last] @ part[:, first:last].T
        out[..., start : start + len(part)] = product
    return out
