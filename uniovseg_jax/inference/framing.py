"""How an image gets into the network: letterboxed as in the released code, or as FC-CLIP tests."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Num
from PIL import Image

from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.proposals import letterbox, unit_grid

# Sides of the network's input are multiples of its largest stride.
_STRIDE = 32


@dataclasses.dataclass(frozen=True)
class NetworkInput:
    """An image as the network sees it, and where it came from.

    Attributes:
      pixels: RGB, 0..255, padded right and bottom.
      content_hw: The part that the image fills.
      image_hw: Size of the image.
      point_scale: Factors (x, y) from points of the image to points of the input; the last pixel
        of a side keeps to the last pixel of what it is measured by.
      box_scale: Factors (x, y) from edges of boxes, which lie between pixels.
    """

    pixels: Num[np.ndarray, "h w 3"]
    content_hw: tuple[int, int]
    image_hw: tuple[int, int]
    point_scale: tuple[float, float]
    box_scale: tuple[float, float]

    @property
    def image_wh(self) -> tuple[int, int]:
        """Width and height of the image."""
        return self.image_hw[1], self.image_hw[0]

    def grid(self, points_per_side: int) -> Float[np.ndarray, "p 2"]:
        """Returns centres (x, y) of equal cells of the content in pixels of the input, by rows."""
        last = np.array(self.image_wh, np.float64) - 1
        return (unit_grid(points_per_side) * last * self.point_scale).astype(np.float32)

    def full_size(self, mask_logits: Float[np.ndarray, "n h w"]) -> FullSizeLogits:
        """Wraps logits of the network, at any stride, to be resized to the image."""
        height, width = self.pixels.shape[:2]
        return FullSizeLogits(mask_logits, (height, width), self.content_hw, self.image_hw)


# Brings RGB images to the size and the padding that the network gets. Raises a ValueError for what
# is no uint8 RGB image of at least one pixel.
Framing = Callable[[np.ndarray], NetworkInput]


@dataclasses.dataclass(frozen=True)
class Letterbox:
    """The long side becomes `side`, the rest is grey: how the released code sees images.

    Attributes:
      side: Of the square input, in pixels.
    """

    side: int

    def __post_init__(self) -> None:
        if self.side < _STRIDE or self.side % _STRIDE:
            raise ValueError(f"The side must be a multiple of {_STRIDE}, got {self.side}.")

    def __call__(self, image: np.ndarray) -> NetworkInput:
        """Frames an RGB image "h w 3"."""
        _check(image)
        pixels, (width, height) = letterbox(image, self.side)
        longest = max(image.shape[:2])
        # The last pixel of the long side keeps to the input's last pixel, as in the point grid.
        point = (self.side - 1) / max(1, longest - 1)
        # The image's far edge is the content's, as for boxes in training and for resized masks.
        box = self.side / longest
        hw = (image.shape[0], image.shape[1])
        return NetworkInput(pixels, (height, width), hw, (point, point), (box, box))


@dataclasses.dataclass(frozen=True)
class ShortSide:
    """The short side becomes `short` unless the long side then passes `longest`: FC-CLIP's tests.

    The padding is CLIP's mean, which is zero once the network has normalised it.

    Source: the resizing of detectron2 and the padding of FC-CLIP.

    Attributes:
      short: In pixels.
      longest: In pixels.
      pad_to: Sides are padded to multiples of this; 32 changes least, a larger number makes fewer
        shapes that have to be compiled.
      mean: RGB of the padding, 0..255.
    """

    short: int
    longest: int
    pad_to: int
    mean: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.pad_to < _STRIDE or self.pad_to % _STRIDE:
            raise ValueError(f"pad_to must be a multiple of {_STRIDE}, got {self.pad_to}.")
        if not 0 < self.short <= self.longest:
            raise ValueError(
                f"Expected 0 < short <= longest, got short={self.short}, longest={self.longest}."
            )

    def __call__(self, image: np.ndarray) -> NetworkInput:
        """Frames an RGB image "h w 3"."""
        _check(image)
        hw = (image.shape[0], image.shape[1])
        height, width = short_side_hw(hw, self.short, self.longest)
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        padded = [-(-side // self.pad_to) * self.pad_to for side in (height, width)]
        pixels = np.empty((*padded, 3), np.float32)
        pixels[:] = self.mean
        pixels[:height, :width] = np.asarray(resized)
        return NetworkInput(
            pixels,
            (height, width),
            hw,
            ((width - 1) / max(1, hw[1] - 1), (height - 1) / max(1, hw[0] - 1)),
            (width / hw[1], height / hw[0]),
        )


def short_side_hw(image_hw: tuple[int, int], short: int, longest: int) -> tuple[int, int]:
    """Returns the size that an image is resized to; at least one pixel.

    The order of the operations is detectron2's, since halves are rounded up.
    """
    scale = short / min(image_hw)
    height, width = (short if side == min(image_hw) else scale * side for side in image_hw)
    if max(height, width) > longest:
        scale = longest / max(height, width)
        height, width = height * scale, width * scale
    return max(1, math.floor(height + 0.5)), max(1, math.floor(width + 0.5))


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"An image must be a uint8 array of height x width x 3 (RGB); this one is "
            f"{image.dtype} of shape {image.shape}."
        )
