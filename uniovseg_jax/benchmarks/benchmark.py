"""What a benchmark is: images by id, and the truth that its files hold about each."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.image_io import read_image, read_image_for

# COCO run lengths, `size` and `counts`, of crowds also `iscrowd`.
Rle = Mapping[str, Any]
LabelMap = Int32[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class TrueInstance:
    """One object of a known class.

    Attributes:
      rle: Its mask.
      category: Index of its class.
      area: As the annotation states it, in pixels; AP sorts objects into sizes by it.
      iscrowd: Whether it is a region of uncounted objects.
    """

    rle: Rle
    category: int
    area: float
    iscrowd: bool = False


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """A dataset that is ready to be scored; what it cannot be scored on is None.

    The functions take an image id and read files when they are called. They raise a ValueError that
    names the file where it is missing, damaged, of the wrong kind, or holds an id of no class.

    Attributes:
      name: As `registry.open_benchmark` takes it.
      images: Image files by id, in a fixed order.
      read_semantic: Index of the class of every pixel, -1 where nothing is scored.
      read_panoptic: A map of segments, 0 is void, and the segments with indices of classes and the
        areas that the annotation states.
      read_instances: Objects of known classes.
      read_masks: Masks without classes, for prompts.
      classes: What is scored; None if there are only masks.
      words: Whose names regions are told apart by, where those are not `classes`.
      folded: Index in `classes` of every class of `words`.
      resize: Short side that an image is brought to, unless its long side then passes the second.
      unverified: What of the layout nobody could check against the real files, or of the rules
        against the published ones, in sentences.
      as_published: False where another number of images was found than the published split has.
      read_sizes: Height and width of an image's labels without decoding them, for the check before
        a run; None if only decoding tells.
      void_class: Index of the class that void predictions stand for; None if they are mistakes.
      read_image: Image by id, where images are in no files of their own.
      preparation: How the files were made, where the package made them and said so.
      missing: By task that it could be scored on, the file without which it cannot.
      file_ids: By task, what the files of the truth number the classes by, in their order; the ids
        of `classes` where a task is not there.
      label_names: Label map by id: its path within the folder of the split, without its ending.
        Empty where images have no label maps of their own.
    """

    name: str
    images: Mapping[str, pathlib.Path]
    read_semantic: Callable[[str], LabelMap] | None = None
    read_panoptic: Callable[[str], tuple[LabelMap, tuple[Segment, ...]]] | None = None
    read_instances: Callable[[str], tuple[TrueInstance, ...]] | None = None
    read_masks: Callable[[str], tuple[Rle, ...]] | None = None
    classes: ClassList | None = None
    words: ClassList | None = None
    folded: Int32[np.ndarray, " t"] | None = None
    resize: tuple[int, int] = (800, 1333)
    unverified: tuple[str, ...] = ()
    as_published: bool = True
    read_sizes: Callable[[str], tuple[int, int]] | None = None
    void_class: int | None = None
    read_image: Callable[[str], UInt8[np.ndarray, "h w 3"]] | None = None
    preparation: Mapping[str, Any] | None = None
    missing: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    file_ids: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    label_names: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def image(self, image_id: str, hw: tuple[int, int] | None) -> UInt8[np.ndarray, "h w 3"]:
        """Returns an image, RGB.

        Args:
          image_id: A key of `images`.
          hw: Size of its labels; None if they do not tell.

        Raises:
          FileNotFoundError: If it is missing.
          ValueError: If it is damaged or has another size than its labels.
        """
        if self.read_image is not None:
            return self.read_image(image_id)
        if hw is None and self.read_sizes is not None:
            hw = self.read_sizes(image_id)
        path = self.images[image_id]
        return read_image(path) if hw is None else read_image_for(path, hw)

    def first(self, limit: int) -> "Benchmark":
        """Returns it with its first images only, or with all for a limit of 0."""
        images = dict(list(self.images.items())[: limit or None])
        return dataclasses.replace(self, images=images)

    @property
    def readers(self) -> dict[str, Callable[[str], Any]]:
        """What reads the truth, by what it can be scored on."""
        readers = {
            "semantic": self.read_semantic,
            "panoptic": self.read_panoptic,
            "instance": self.read_instances,
            "promptable": self.read_masks,
        }
        return {task: reader for task, reader in readers.items() if reader is not None}

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it can be scored on."""
        return tuple(self.readers)
