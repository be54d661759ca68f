"""A sample that depends on names and a seed only, not on the order of anything."""

import dataclasses
import hashlib
from typing import Any, Literal

_PARTS = 10_000


def name_digest(seed: int, name: str) -> int:
    """Returns 160 bits that a name and a seed decide, and nothing else."""
    text = f"{seed}:{name}".encode(errors="surrogateescape")
    return int(hashlib.sha1(text, usedforsecurity=False).hexdigest(), 16)


@dataclasses.dataclass(frozen=True)
class Sample:
    """Which images, or which whole tars, are kept.

    A name is kept when `int(sha1(f"{seed}:{name}"), 16) mod 10,000 < round(10,000 * share)`, with
    sha1 over UTF-8 (of a file name that is not UTF-8, over its bytes) and read as one hexadecimal
    number. The name of an image is its id (SA-1B's
    `sa_223750.jpg` is "223750"; COCO's ids have no leading zeros; in a folder it is the stem); that
    of a tar is its file name, such as "sa_000020.tar".

    A larger share with the same seed keeps all that a smaller one keeps. By image and by tar are
    different random sets of the same expected size.

    Attributes:
      by: What the share is of.
      share: More than 0, at most 1.
      seed: 0 or more.
    """

    by: Literal["image", "tar"] = "image"
    share: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if not 1 / _PARTS <= self.share <= 1:
            raise ValueError(
                f"The share of a sample must lie from {1 / _PARTS} to 1, got {self.share}."
            )
        if self.seed < 0:
            raise ValueError(f"The seed of a sample must be 0 or more, got {self.seed}.")

    def keeps_image(self, image_id: str) -> bool:
        """Says whether an image is kept, given that its tar is."""
        return self.by != "image" or self._keeps(image_id)

    def keeps_tar(self, name: str) -> bool:
        """Says whether anything of a tar is kept."""
        return self.by != "tar" or self._keeps(name)

    def describe(self) -> dict[str, Any]:
        """Returns the three attributes for the manifest."""
        return dataclasses.asdict(self)

    def _keeps(self, name: str) -> bool:
        return name_digest(self.seed, name) % _PARTS < round(_PARTS * self.share)
