"""Value maps: a mask per known value, and no unknown ones."""

import numpy as np
import pytest
from label_files import write_image, write_png

from uniovseg_jax.benchmarks.labels.paired_files import pair_files
from uniovseg_jax.benchmarks.labels.value_maps import ValueMaps
from uniovseg_jax.masks import rle_decode


def made(folder, array):
    write_image(folder / "image" / "a.jpg")
    write_png(folder / "label" / "a.png", array)
    return ValueMaps(pair_files(folder / "image", folder / "label", ".png"), range(1, 9))


def test_every_value_that_occurs_is_one_mask_in_ascending_order(tmp_path):
    array = np.random.default_rng(0).choice(np.array([0, 1, 4, 8], np.uint8), size=(8, 8))
    labels = made(tmp_path, array)
    masks = [rle_decode(rle) for rle in labels.masks("a")]
    np.testing.assert_array_equal(masks, [array == value for value in (1, 4, 8)])
    assert labels.hw("a") == (8, 8)


def test_another_value_is_one_sentence(tmp_path):
    array = np.full((8, 8), 2, np.uint8)
    array[3, 3] = 9
    with pytest.raises(ValueError, match=r"a.png holds the value 9; expected 0 and 1 to 8."):
        made(tmp_path, array).masks("a")
