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
        bounds = np.cumsum(runs)  # Where the foreground starts and ends, column by column.
        bounds = bounds[: len(bounds) // 2 * 2].reshape(-1, 2)
        bounds = bounds[bounds[:, 0] < bounds[:, 1]].ravel()
        if not len(bounds):
            return None
        columns = bounds // h
        rows = bounds - columns * h
        over = rows[1::2] == 0  # The last pixel is at the foot of the column before.
        last = columns[1::2] - over
        left, right = self._shown_columns[[columns[0], last[-1] + 1]]
        top, bottom = 0, h
        # Otherwise a run goes over the end of a column: it touches the first and the last row.
        if np.array_equal(columns[0::2], last):
            top, bottom = rows[0::2].min(), h if over.any() else rows[1::2].max()
        top, bottom = self._shown_rows[[top, bottom]]
        # The same runs, counting only pixels that are shown.
        shown, rows = self._shown_columns[columns], self._shown_rows[rows].clip(top, bottom) - top
        rows *= self._shown_columns[columns + 1] - shown
        ends = (shown - left) * (bottom - top) + rows
        runs = np.diff(ends, prepend=0, append=(right - left) * (bottom - top))
        if not runs[1::2].any():
            return None
        pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(right - left, -1)
        repeats = self._columns[1]
        start = repeats[:left].sum()
        if (repeats[left:right] != 1).any():
            pixels = pixels.repeat(repeats[left:right], axis=0)
        if self.flip:
            pixels, start = pixels[::-1], self.content_hw[1] - start - len(pixels)
        return MaskBlock(pixels.T, int(top), int(start))

    @functools.cached_property
    def _shown_rows(self) -> Int[np.ndarray, "{self.height}+1"]:
        """How many rows of the content show a row of the image above this one."""
        rows = _nearest(self.content_hw[0], self.origin[0], self.height, self.scaled_hw[0])
        return np.searchsorted(rows, np.arange(self.height + 1))

    @functools.cached_property
    def _columns(self) -> tuple[Int[np.ndarray, " shown"], Int[np.ndarray, " shown"]]:
        """The columns of the image that the content shows, in their order, and how often each."""
        columns = _nearest(self.content_hw[1], self.origin[1], self.width, self.scaled_hw[1])
        if self.flip:
            columns = self.width - 1 - columns[::-1]
        return np.unique(columns, return_counts=True)

    @functools.cached_property
    def _shown_columns(self) -> Int[np.ndarray, "{self.width}+2"]:
        """How many columns of the image left of this one are shown."""
        return np.searchsorted(self._columns[0], np.arange(self.width + 2))


def _nearest(count: int, origin: int, length: int, scaled: int) -> Int[np.ndarray, " count"]:
    positions = (np.arange(count) + origin + 0.5) * length / scaled
    return np.minimum(positions.astype(np.int64), length - 1)
