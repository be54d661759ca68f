"""What both sides of a comparison are given."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from uniovseg_jax.image_io import read_image
from uniovseg_jax.proposals import letterbox


@dataclasses.dataclass(frozen=True)
class Verification:
    """How a conversion is checked.

    Attributes:
      title: Of the report.
      sizes: Input sides in pixels, multiples of 32.
      image: File of a photograph; a smooth random picture stands in for it where there is none.
    """

    title: str
    sizes: Sequence[int]
    image: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError if a size is no multiple of 32, or what `read_image` raises."""
        if not self.sizes or any(size <= 0 or size % 32 for size in self.sizes):
            raise ValueError(
                f"Sides to verify at are {list(self.sizes)}; expected multiples of 32 (--sizes)."
            )
        if self.image is not None:
            read_image(self.image)

    def describe(self) -> str:
        """Returns what `verification_images` gives, in words."""
        picture = pathlib.Path(self.image).name if self.image else "a smooth random picture"
        return f"noise and {picture} at {', '.join(map(str, self.sizes))} pixels"


def parse_sizes(values: Sequence[str]) -> list[int]:
    """Reads input sides as a flag gives them.

    Raises:
      ValueError: If one is no whole number.
    """
    if not all(value.isdecimal() for value in values):
        raise ValueError(f"--sizes is {','.join(values)}; expected whole numbers such as 320,1024.")
    return [int(value) for value in values]


def verification_images(size: int, image: str | None) -> list[UInt8[np.ndarray, "1 s s 3"]]:
    """Returns noise and a photograph, or a picture as smooth as one, both from the size alone."""
    rng = np.random.default_rng(size)
    noise = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    if image is not None:
        return [noise[None], letterbox(read_image(image), size)[0][None]]
    waves = np.zeros((size, size, 3))
    y, x = np.mgrid[:size, :size] / size
    for _ in range(12):
        fx, fy = rng.normal(0, 8, 2)
        phase = rng.uniform(0, 2 * np.pi)
        waves += np.sin(2 * np.pi * (fx * x + fy * y) + phase)[..., None] * rng.normal(size=3)
    return [noise[None], np.clip(128 + 30 * waves, 0, 255).astype(np.uint8)[None]]
