"""The way of mask logits back to the image's own size.

A hundred masks of a 12-megapixel image would take 5 GB as floats. Results need them only once, so
they are produced tile by tile, or mask by mask. What a mask can be in a tile is known before from
the few cells that it is interpolated from: most masks matter in few tiles.
"""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from uniovseg_jax.ops.resize import resize_bilinear_numpy
from uniovseg_jax.packed_masks import PackedMasks

# Side of a tile in pixels, a multiple of eight. Hundreds of masks of one fit a core's cache.
_TILE = 32
_COLUMNS_PER_PRODUCT = 128


@dataclasses.dataclass(frozen=True)
class Tile:
    """All masks in a square of the image, at its right and lower border a rectangle.

    Attributes:
      rows: Its place in the image.
      columns: Its place in the image.
      least: No logit of a mask is smaller here.
      most: No logit of a mask is larger here. Both may be off by rounding, but never in sign.
    """

    rows: slice
    columns: slice
    least: Float[np.ndarray, " n"]
    most: Float[np.ndarray, " n"]
    _cells: Float[np.ndarray, "r c n"]
    _row_weights: Float[np.ndarray, "h r"]
    _column_weights: Float[np.ndarray, "w c"]

    def logits(self, masks: Int[np.ndarray, " k"] | None = None) -> Float[np.ndarray, "h w k"]:
        """Returns the logits of these masks, or of all."""
        cells = self._cells if masks is None else self._cells[..., masks]
        r, c, k = cells.shape
        narrow = self._row_weights @ cells.reshape(r, c * k)
        return self._column_weights @ narrow.reshape(-1, c, k)

    def put_bits(
        self,
        packed: UInt8[np.ndarray, "n H w8"],
        masks: Int[np.ndarray, " k"],
        inside: Bool[np.ndarray, "h w k"],
    ) -> None:
        """Writes pixels of these masks into their bits of the image, eight pixels a byte."""
        packed[masks, self.rows, self.bytes] = np.packbits(inside.transpose(2, 0, 1), axis=-1)

    @property
    def bytes(self) -> slice:
        """The columns in bytes of eight pixels."""
        return slice(self.columns.start // 8, -(-self.columns.stop // 8))


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

    def tiles(self) -> Iterator[Tile]:
        """Yields squares that cover the image, row by row; none where there are no masks.

        Raises:
          ValueError: If a logit is not finite; no mask could be told from it.
        """
        if not len(self):
            return
        rows, columns = self._matrices
        supports = [(part, *_support(columns[part])) for part in _parts(len(columns))]
        for part in _parts(len(rows)):
            cells, row_weights = _support(rows[part])
            band = np.asarray(self.mask_logits[:, cells], np.float32)
            band = np.ascontiguousarray(band.transpose(1, 2, 0))
            least, most = band.min(axis=0), band.max(axis=0)
            if not (np.isfinite(least).all() and np.isfinite(most).all()):
                raise ValueError("Logits of masks must be finite numbers; the model gave others.")
            for columns_part, needed, column_weights in supports:
                yield Tile(
                    part,
                    columns_part,
                    least[needed].min(axis=0),
                    most[needed].max(axis=0),
                    band[:, needed],
                    row_weights,
                    column_weights,
                )

    def mask(self, index: int) -> Float[np.ndarray, "h w"]:
        """Returns the logits of one mask."""
        rows, columns = self._matrices
        narrow = rows @ np.asarray(self.mask_logits[index], np.float32)
        out = np.empty(self.image_hw, np.float32)
        # A few columns of the result need only a few cells.
        for start in range(0, len(columns), _COLUMNS_PER_PRODUCT):
            part = slice(start, start + _COLUMNS_PER_PRODUCT)
            needed, weights = _support(columns[part])
            out[:, part] = narrow[:, needed] @ weights.T
        return out

    def packed(self) -> PackedMasks:
        """Returns the masks, a pixel inside where its logit is >= 0, as bits."""
        height, width = self.image_hw
        packed = np.zeros((len(self), height, -(-width // 8)), np.uint8)
        for tile in self.tiles():
            whole = np.ones(tile.columns.stop - tile.columns.start, bool)
            packed[tile.least >= 0, tile.rows, tile.bytes] = np.packbits(whole)
            cut = np.flatnonzero((tile.least < 0) & (tile.most >= 0))
            if len(cut):
                tile.put_bits(packed, cut, tile.logits(cut) >= 0)
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


def _parts(size: int) -> Iterator[slice]:
    """Yields the sides of tiles along an axis."""
    for start in range(0, size, _TILE):
        yield slice(start, min(start + _TILE, size))


def _support(weights: Float[np.ndarray, "p cells"]) -> tuple[slice, Float[np.ndarray, "p needed"]]:
    """Returns the cells that some pixels of an axis need, and the weights without the others."""
    used = np.flatnonzero(weights.any(axis=0))
    needed = slice(int(used[0]), int(used[-1]) + 1)
    return needed, np.ascontiguousarray(weights[:, needed])
