"""True masks of a benchmark with their classes, whatever form its truth has."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.packed_masks import PackedMasks

# What masks are made of, the first that a benchmark has.
TRUTHS = ("panoptic", "semantic", "instance")


class TrueRegions(NamedTuple):
    """An image and its true masks.

    Attributes:
      image: RGB.
      masks: At the image's size; none is empty.
      labels: The class of each.
    """

    image: UInt8[np.ndarray, "h w 3"]
    masks: PackedMasks
    labels: Int[np.ndarray, " n"]


def region_reader(benchmark: Benchmark, truth: str) -> Callable[[str], TrueRegions]:
    """Returns a function from image ids to images and true masks without crowds.

    Args:
      benchmark: That has it.
      truth: `panoptic` takes segments, `instance` objects, `semantic` all pixels of a class.
    """

    def semantic(image_id: str) -> Iterator[tuple[Bool[np.ndarray, "h w"], int]]:
        assert benchmark.read_semantic is not None
        labels = benchmark.read_semantic(image_id)
        for label in np.unique(labels[labels >= 0]).tolist():
            yield labels == label, label

    def panoptic(image_id: str) -> Iterator[tuple[Bool[np.ndarray, "h w"], int]]:
        assert benchmark.read_panoptic is not None
        ids, segments = benchmark.read_panoptic(image_id)
        for segment in segments:
            if not segment.iscrowd:
                yield ids == segment.id, segment.category

    def instance(image_id: str) -> Iterator[tuple[Bool[np.ndarray, "h w"], int]]:
        assert benchmark.read_instances is not None
        for found in benchmark.read_instances(image_id):
            if not found.iscrowd:
                yield rle_decode(found.rle), found.category

    masks_of = {"semantic": semantic, "panoptic": panoptic, "instance": instance}[truth]

    def read(image_id: str) -> TrueRegions:
        packed, labels, hw = [], [], None
        for mask, label in masks_of(image_id):
            hw = mask.shape
            if mask.any():
                packed.append(np.packbits(mask, axis=-1))
                labels.append(label)
        image = benchmark.image(image_id, hw)
        height, width = image.shape[:2]
        rows = np.array(packed, np.uint8).reshape(len(packed), height, -(-width // 8))
        masks = PackedMasks.from_bytes(rows, width)
        return TrueRegions(image, masks, np.array(labels, np.int64))

    return read
