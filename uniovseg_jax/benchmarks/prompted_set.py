"""What a set of images and masks for prompts is: its splits, and how one is opened."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from uniovseg_jax.benchmarks.benchmark import Benchmark, Rle
from uniovseg_jax.benchmarks.split_sizes import note_of_size


@runtime_checkable
class Labels(Protocol):
    """What every form of labels offers."""

    @property
    def images(self) -> Mapping[str, pathlib.Path]:
        """Image files by id."""
        ...

    def masks(self, image_id: str) -> tuple[Rle, ...]:
        """Returns the masks of an image."""
        ...

    def hw(self, image_id: str) -> tuple[int, int]:
        """Returns height and width of an image's labels."""
        ...


@dataclasses.dataclass(frozen=True)
class Split:
    """Where the files of a split are, below the data root.

    Attributes:
      images: Folder of the images.
      labels: Label file, or folder of label files.
      read: Opens them, given the two in the order images, labels.
      num_images: As published, where it is known.
    """

    images: str
    labels: str
    read: Callable[[pathlib.Path, pathlib.Path], Labels]
    num_images: int | None = None


@dataclasses.dataclass(frozen=True)
class PromptedSet:
    """One set of images and masks.

    Attributes:
      name: As in `prompted.PROMPTED_SETS`.
      splits: By name; the first is the default.
      unverified: What of the layout nobody could check against the real files, in sentences.
    """

    name: str
    splits: Mapping[str, Split]
    unverified: tuple[str, ...] = ()

    def __call__(self, root: pathlib.Path, split: str | None = None) -> Benchmark:
        """Opens a split.

        Args:
          root: Folder of all datasets.
          split: One of `splits`; None for the default.

        Raises:
          FileNotFoundError: If a folder or file is missing.
          ValueError: If there is no such split, or its files are not as expected.
        """
        split = next(iter(self.splits)) if split is None else split
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has no split {split!r}; expected one of {', '.join(self.splits)}."
            )
        chosen = self.splits[split]
        labels = chosen.read(root / chosen.images, root / chosen.labels)
        unverified = self.unverified
        as_published = chosen.num_images in (None, len(labels.images))
        if not as_published:
            assert chosen.num_images is not None
            unverified += (note_of_size(len(labels.images), split, chosen.num_images),)
        return Benchmark(
            self.name,
            labels.images,
            read_masks=labels.masks,
            read_sizes=labels.hw,
            unverified=unverified,
            as_published=as_published,
        )


@dataclasses.dataclass(frozen=True)
class PromptedSuite:
    """A set of several parts, of whose scores the plain mean is taken.

    Attributes:
      parts: In the order in which they are printed.
    """

    parts: tuple[PromptedSet, ...]

    def __call__(self, root: pathlib.Path, split: str | None = None) -> tuple[Benchmark, ...]:
        """Opens a split of every part.

        Raises:
          FileNotFoundError: If a folder or file is missing.
          ValueError: If there is no such split, or its files are not as expected.
        """
        return tuple(part(root, split) for part in self.parts)
