"""True masks of every form of truth: crowds and empty ones are left out."""

import pathlib

import numpy as np

from uniovseg_jax.benchmarks.benchmark import Benchmark, TrueInstance
from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.eval.naming.true_regions import region_reader
from uniovseg_jax.masks import rle_encode

IDS = np.array([[1, 1, 2, 0], [3, 4, 4, 0]], np.int32)
# Segment 3 is a crowd, 9 is listed without a pixel.
SEGMENTS = tuple(
    Segment(number, category, None, number == 3)
    for number, category in ((1, 5), (2, 0), (3, 1), (4, 5), (9, 2))
)
SEMANTIC = np.array([[5, 5, 0, -1], [-1, 5, 5, -1]], np.int32)
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def read(truth, instances=()):
    benchmark = Benchmark(
        "made up",
        {"a": pathlib.Path("a.png")},
        read_semantic=lambda _: SEMANTIC,
        read_panoptic=lambda _: (IDS, SEGMENTS),
        read_instances=lambda _: tuple(instances),
        read_image=lambda _: IMAGE,
    )
    image, masks, labels = region_reader(benchmark, truth)("a")
    np.testing.assert_array_equal(image, IMAGE)
    return [masks.mask(row) for row in range(len(masks))], labels.tolist()


def test_segments():
    masks, labels = read("panoptic")
    assert labels == [5, 0, 5]
    np.testing.assert_array_equal(masks, [IDS == 1, IDS == 2, IDS == 4])


def test_all_pixels_of_a_class_are_one_mask():
    masks, labels = read("semantic")
    assert labels == [0, 5]
    np.testing.assert_array_equal(masks, [SEMANTIC == 0, SEMANTIC == 5])


def test_objects_may_overlap():
    left, all_of_it = IDS == 1, np.ones((2, 4), bool)
    masks, labels = read(
        "instance",
        [
            TrueInstance(rle_encode(left), 2, 2.0),
            TrueInstance(rle_encode(all_of_it), 3, 8.0, iscrowd=True),
            TrueInstance(rle_encode(all_of_it), 1, 8.0),
            TrueInstance(rle_encode(~all_of_it), 1, 0.0),
        ],
    )
    assert labels == [2, 1]
    np.testing.assert_array_equal(masks, [left, all_of_it])
    assert read("instance") == ([], [])
