"""The sample of images: decided by seed and ids alone, large enough, kept in a file."""

import dataclasses
import hashlib
import json
import pathlib

import numpy as np
import pytest

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.sampling import (
    ImageSample,
    count_masks,
    draw_sample,
    read_sample,
    sampled,
    write_sample,
)
from uniovseg_jax.masks import rle_encode


def some_counts(total_images=1500, seed=0, name="egohos"):
    rng = np.random.default_rng(seed)
    return {name: {f"img_{n}": int(rng.integers(0, 30)) for n in range(total_images)}}


def total(counts):
    return sum(sum(part.values()) for part in counts.values())


def drawn_by_hand(counts, seed):
    """Hashes written out, one image after the other."""
    keys = [(name, image_id) for name, part in counts.items() for image_id in part]
    keys.sort(key=lambda k: hashlib.sha1(f"{seed}:{k[0]}/{k[1]}".encode()).hexdigest())
    taken, masks = set(), 0
    for name, image_id in keys:
        if masks < 10_000 and counts[name][image_id] > 0:
            taken.add((name, image_id))
            masks += counts[name][image_id]
    return taken, masks


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_images_are_taken_by_their_hashes_until_the_masks_suffice(seed):
    counts = some_counts()
    assert total(counts) > 15_000
    sample = draw_sample(counts, seed)
    taken, masks = drawn_by_hand(counts, seed)
    assert {(name, i) for name, ids in sample.images.items() for i in ids} == taken
    assert sample.num_masks == masks == sum(counts["egohos"][i] for i in sample.images["egohos"])
    assert 10_000 <= masks < 10_030
    assert sample.images["egohos"] == tuple(sorted(sample.images["egohos"]))


def test_the_order_of_images_and_parts_does_not_matter():
    counts = some_counts(900, 1, "ishape/log") | some_counts(900, 2, "ishape/wire")
    rng = np.random.default_rng(3)
    first = draw_sample(counts, 7)
    for _ in range(3):
        names = rng.permutation(list(counts)).tolist()
        shuffled = {
            name: {i: counts[name][i] for i in rng.permutation(list(counts[name])).tolist()}
            for name in names
        }
        assert draw_sample(shuffled, 7) == first
    assert draw_sample(counts, 8).images != first.images
    # Parts are drawn from together: each has about the half of 10,000.
    shares = [sum(counts[name][i] for i in first.images[name]) for name in counts]
    assert sum(shares) == first.num_masks and min(shares) > 4_000


def test_sets_up_to_the_limit_are_taken_whole():
    at_limit = {"a": {"x": 15_000, "y": 0}}
    assert draw_sample(at_limit, 0) == ImageSample(0, 15_000, {"a": ("x", "y")})
    above = {"a": {"x": 15_000, "y": 1, "z": 0}}
    sample = draw_sample(above, 0)
    assert "z" not in sample.images["a"] and sample.num_masks >= 10_000


def test_images_that_are_added_change_the_sample_only_at_its_end():
    counts = some_counts()
    before = set(draw_sample(counts, 0).images["egohos"])
    more = {"egohos": {**counts["egohos"], "one_more": 5}}
    after = set(draw_sample(more, 0).images["egohos"])
    assert len(before ^ after) <= 2


def benchmark(masks, name="set"):
    """A benchmark with so many one-pixel masks per image, beside a crowd and an empty mask."""
    pixel, nothing = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    pixel[3, 3] = True

    def read_masks(image_id):
        crowd = {**rle_encode(pixel), "iscrowd": 1}
        return (crowd, rle_encode(nothing), *[rle_encode(pixel)] * masks[image_id])

    images = {image_id: pathlib.Path(f"{image_id}.jpg") for image_id in masks}
    return Benchmark(name, images, read_masks=read_masks)


def test_crowds_and_empty_masks_are_not_counted():
    assert count_masks(benchmark({"a": 3, "b": 0})) == {"a": 3, "b": 0}
    with pytest.raises(ValueError, match="set has no masks without classes to count"):
        count_masks(dataclasses.replace(benchmark({}), read_masks=None))


def test_a_sample_is_drawn_once_and_then_read_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr("uniovseg_jax.benchmarks.sampling.LARGE_SET", 20)
    monkeypatch.setattr("uniovseg_jax.benchmarks.sampling.SAMPLED_MASKS", 10)
    parts = [
        benchmark({f"{n}": 1 + n % 3 for n in range(9)}, "suite/a"),
        benchmark({f"{n}": 1 + n % 2 for n in range(9)}, "suite/b"),
    ]
    path = tmp_path / "samples" / "suite.json"
    first = sampled(parts, path, seed=5)
    written = path.read_bytes()
    assert [part.name for part in first] == ["suite/a", "suite/b"]
    counts = {part.name: count_masks(part) for part in parts}
    drawn = draw_sample(counts, 5)
    assert {part.name: tuple(sorted(part.images)) for part in first} == drawn.images
    assert 10 <= sum(sum(count_masks(part).values()) for part in first) < 13
    assert json.loads(written)["num_masks"] == drawn.num_masks

    def refuse(image_id):
        raise AssertionError("No label is read again.")

    unread = [dataclasses.replace(part, read_masks=refuse) for part in reversed(parts)]
    again = sampled(unread, path, seed=5)
    assert [part.images for part in again] == [part.images for part in reversed(first)]
    assert path.read_bytes() == written and list(tmp_path.rglob("*.tmp*")) == []
    # Images stay in the order of the benchmark.
    order = [image_id for image_id in parts[0].images if image_id in first[0].images]
    assert list(first[0].images) == order


def test_the_file_decides_and_must_fit(tmp_path):
    path = tmp_path / "set.json"
    whole = benchmark({"a": 1, "b": 1})
    write_sample(ImageSample(3, 1, {"set": ("b",)}), path)
    (only,) = sampled([whole], path, seed=3)
    assert list(only.images) == ["b"]
    with pytest.raises(ValueError, match="set.json was drawn with seed 3, expected 0"):
        sampled([whole], path)
    with pytest.raises(ValueError, match="set.json is a sample of set, expected one of other"):
        sampled([dataclasses.replace(whole, name="other")], path, seed=3)
    with pytest.raises(ValueError, match="names the image b, which set does not have"):
        sampled([benchmark({"a": 1})], path, seed=3)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"seed": 0, "num_masks": 1}',
        '{"seed": -1, "num_masks": 1, "images": {}}',
        '{"seed": 0, "num_masks": 1, "images": {"a": [1]}}',
        '{"seed": 0, "num_masks": 1, "images": {"a": ["x", "x"]}}',
    ],
)
def test_other_files_are_no_samples(tmp_path, text):
    path = tmp_path / "set.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="set.json is no sample of images: "):
        read_sample(path)
