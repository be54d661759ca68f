"""Half a download does not pass for the whole set."""

import dataclasses
import pathlib

import pytest

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.named import NAMED
from uniovseg_jax.benchmarks.split_sizes import LONG_NAMES, with_note_of_size


def make(name, count):
    images = {str(n): pathlib.Path(f"{n}.jpg") for n in range(count)}
    return Benchmark(name, images, unverified=("Nobody looked.",))


@pytest.mark.parametrize(
    ("name", "split", "count"),
    [
        ("coco_panoptic", "val", 5000),
        ("ade20k_847", "train", 25574),
        ("pascal_context_59", "val", 5104),
        ("pascal_context_59", "val", 5105),
        ("pascal_voc20b", "val", 1449),
        ("folder", "val", 3),
    ],
)
def test_nothing_is_said_of_a_whole_split(name, split, count):
    assert with_note_of_size(make(name, count), split).unverified == ("Nobody looked.",)


def test_another_number_is_said():
    found = with_note_of_size(make("cityscapes", 499), "val")
    assert found.unverified == (
        "Nobody looked.",
        "499 images were found, the published split val has 500.",
    )
    assert not found.as_published and with_note_of_size(make("cityscapes", 500), "val").as_published
    assert dataclasses.replace(found, unverified=()).images == make("cityscapes", 499).images


def test_every_published_set_is_known():
    for name in NAMED:
        for split in LONG_NAMES:
            said = with_note_of_size(make(name, 1), split).unverified
            assert (len(said) == 1) == (name in ("folder", "tinyscenes")), name
