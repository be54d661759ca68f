"""tinyscenes as a benchmark: its truth agrees with itself in all three tasks."""

import numpy as np
import pytest

from uniovseg_jax.benchmarks.check import check_benchmark, check_labels
from uniovseg_jax.benchmarks.registry import open_benchmarks
from uniovseg_jax.data.tfds import tinyscenes
from uniovseg_jax.data.tfds.tinyscenes import builder
from uniovseg_jax.masks import rle_decode


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    sizes = {part: {split: 3 for split in splits} for part, splits in builder.TINY_SIZES.items()}
    return tinyscenes.prepare(tmp_path_factory.mktemp("data"), 1, sizes=sizes, progress=False)


def test_the_three_tasks_tell_the_same(root):
    (benchmark,) = open_benchmarks("tinyscenes", root)
    check_benchmark(benchmark)
    check_labels(benchmark, benchmark.tasks, list(benchmark.images), progress=False)
    assert benchmark.tasks == ("semantic", "panoptic", "instance")
    assert benchmark.classes is not None
    assert len(benchmark.images) == 3 and len(benchmark.classes) == 104
    for image_id in benchmark.images:
        image = benchmark.image(image_id, None)
        classes = benchmark.readers["semantic"](image_id)
        ids, segments = benchmark.readers["panoptic"](image_id)
        assert image.shape == (*classes.shape, 3) == (*ids.shape, 3)
        for segment in segments:
            assert segment.area == (ids == segment.id).sum() > 0
            assert (classes[ids == segment.id] == segment.category).all()
        assert (classes[ids == 0] == -1).all()
        things = [s for s in segments if benchmark.classes.is_thing[s.category]]
        found = benchmark.readers["instance"](image_id)
        assert len(found) == len(things) > 0
        for instance, segment in zip(found, things, strict=True):
            np.testing.assert_array_equal(rle_decode(instance.rle), ids == segment.id)
            assert instance.category == segment.category
