"""A square cut out of a flipped and scaled image, and what it makes of pictures and masks.

Where the cut lies is decided first. Only what ends up in it is decoded then: a JPEG at a lower
resolution where that is enough, and of a mask the block that holds its foreground.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image

from uniovseg_jax.masks import checked_runs

PADDING = 128


class MaskBlock(NamedTuple):
    """The foreground of a mask within a cut: pixels, and the row and column of the first one."""

    pixels: Bool[np.ndarray, "h w"]
    top: int
    left: int


@dataclasses.dataclass(frozen=True)
class Crop:
    """Fits an image into a square of `scale * size`, then crops or pads it to `size`.

    Source: Mask2Former's large-scale jitter with the constants of the released configuration.

    Attributes:
      height: Of the image, in pixels.
      width: Of the image.
      size: Side of the cut.
      scale: Factor beyond the plain fit.
      offset: Position of the cut in [0, 1], for both axes, where the scaled image is larger.
      flip: Mirror left to right first.
    """

    height: int
    width: int
    size: int
    scale: float = 1.0
    offset: float = 0.0
    flip: bool = False

    @functools.cached_property
    def scaled_hw(self) -> tuple[int, int]:
        """Size of the scaled image."""
        zoom = self.scale * self.size / max(self.height, self.width)
        return max(1, round(self.height * zoom)), max(1, round(self.width * zoom))

    @functools.cached_property
    def content_hw(self) -> tuple[int, int]:
        """Size of the part of the cut that is image, in its upper left corner."""
        h, w = self.scaled_hw
        return min(self.size, h), min(self.size, w)

    @functools.cached_property
    def origin(self) -> tuple[int, int]:
        """Row and column of the cut's corner in the flipped and scaled image."""
        y, x = (round(self.offset * max(0, side - self.size)) for side in self.scaled_hw)
        return y, x

    def cut_image(self, image: Image.Image) -> Image.Image:
        """Returns the content of the cut, without padding; reads a JPEG no finer than needed."""
        (h, w), (y, x), (ch, cw) = self.scaled_hw, self.origin, self.content_hw
        image.draft("RGB", (w, h))
        if image.mode != "RGB":
            image = image.convert("RGB")
        if self.flip:
            x = w - x - cw
        by_y, by_x = image.height / h, image.width / w
        box = (x * by_x, y * by_y, (x + cw) * by_x, (y + ch) * by_y)
        content = image.resize((cw, ch), Image.Resampling.BILINEAR, box=box)
        return content.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else content

    def pad(self, content: Image.Image) -> UInt8[np.ndarray, "{self.size} {self.size} 3"]:
        """Returns the whole cut: grey at the right of the content and below it."""
        result = np.full((self.size, self.size, 3), PADDING, np.uint8)
        result[: content.height, : content.width] = np.asarray(content)
        return result

    def cut_mask(self, rle: Any) -> MaskBlock | None:
        """Returns what of a mask lies within the cut, by the nearest pixel; None where nothing.

        Raises:
          ValueError: If the run lengths are malformed or the mask is of another size.
        """
        h, w, runs = checked_runs(rle)
        if (h, w) != (self.height, self.width):
            raise ValueError(f"A mask is {h} x {w}, its image {self.height} x {self.width}.")
        ends = np.cumsum(runs)
        starts, ends = ends[0::2], ends[1::2]  # Of the foreground, column by column.
        starts = starts[: len(ends)]
        starts, ends = starts[starts < ends], ends[starts < ends]
        if not len(starts):
            return None
        columns, rows = self._source_columns, self._source_rows
        inside = np.flatnonzero((columns >= starts[0] // h) & (columns <= (ends[-1] - 1) // h))
        if not len(inside):
            return None
        top, bottom = 0, h - 1
        # Otherwise a run goes over the end of a column: it touches the first and the last row.
        if np.array_equal(starts // h, (ends - 1) // h):
            top, bottom = int((starts % h).min()), int(((ends - 1) % h).max())
        seen = np.flatnonzero((rows >= top) & (rows <= bottom))
        if not len(seen):
            return None
        own = columns[inside]
        low, high = int(own.min()), int(own.max())
        block = _decode_columns(starts, ends, h, low, high + 1)
        pixels = block.take(own - low, axis=0).take(rows[seen], axis=1).T
        if not pixels.any():
            return None
        return MaskBlock(pixels, int(seen[0]), int(inside[0]))

    @functools.cached_property
    def _source_rows(self) -> Int[np.ndarray, " content"]:
        """Row of the image that each row of the content shows."""
        return _nearest(self.content_hw[0], self.origin[0], self.height, self.scaled_hw[0])

    @functools.cached_property
    def _source_columns(self) -> Int[np.ndarray, " content"]:
        columns = _nearest(self.content_hw[1], self.origin[1], self.width, self.scaled_hw[1])
        return self.width - 1 - columns if self.flip else columns


def _nearest(count: int, origin: int, length: int, scaled: int) -> Int[np.ndarray, " count"]:
    positions = (np.arange(count) + origin + 0.5) * length / scaled
    return np.minimum(positions.astype(np.int64), length - 1)


def _decode_columns(
    starts: Int[np.ndarray, " r"], ends: Int[np.ndarray, " r"], h: int, low: int, high: int
) -> Bool[np.ndarray, "w h"]:
    """Decodes the columns from `low` to before `high` of runs of foreground."""
    bounds = np.stack([starts, ends], axis=1).clip(low * h, high * h) - low * h
    runs = np.diff(bounds.ravel(), prepend=0, append=(high - low) * h)
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(high - low, h)
