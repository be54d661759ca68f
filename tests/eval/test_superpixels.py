"""The pool of superpixels and its oracle."""

import sys

import numpy as np
import pytest
from scipy import ndimage

from uniovseg_jax.eval.metrics.promptable import TrueMasks
from uniovseg_jax.eval.superpixels import find_best_segments, superpixel_pool
from uniovseg_jax.masks import rle_encode


@pytest.fixture(scope="module")
def picture():
    """Smooth colours with a disc in them."""
    pytest.importorskip("skimage")
    rng = np.random.default_rng(0)
    image = ndimage.gaussian_filter(rng.random((60, 80, 3)), (6, 6, 0))
    image = (image - image.min()) / np.ptp(image)
    y, x = np.mgrid[:60, :80]
    image[(y - 30) ** 2 + (x - 50) ** 2 < 144] = (1, 0, 0)
    return (255 * image).astype(np.uint8)


def _count(pool):
    return sum(len(np.unique(label_map)) for label_map in pool)


def test_a_pool_ends_with_the_map_that_reaches_the_number(picture):
    pool = superpixel_pool(picture, 200)
    assert _count(pool) >= 200 > _count(pool[:-1])
    for label_map in pool:
        assert label_map.shape == (60, 80)
        np.testing.assert_array_equal(np.unique(label_map), np.arange(label_map.max() + 1))
    # The recipe is fixed: a smaller pool is the beginning of a larger one.
    for small, large in zip(superpixel_pool(picture, 40), pool, strict=False):
        np.testing.assert_array_equal(small, large)


@pytest.mark.parametrize("hw", [(1, 1), (1, 7), (4, 3)])
def test_tiny_and_flat_images_have_the_segments_that_they_can(hw, picture):
    pool = superpixel_pool(np.full((*hw, 3), 7, np.uint8), 1600)
    assert 1 <= _count(pool) < 1600


def test_the_oracle_equals_a_search_through_all_segments(picture):
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :80]
    masks = [(y - 30) ** 2 + (x - 50) ** 2 < 144, np.ones((60, 80), bool), (y == 59) & (x == 0)]
    masks += [rng.random((60, 80)) < 0.3, y < 20]
    pool = superpixel_pool(picture, 150)
    best = find_best_segments(TrueMasks.from_rles([rle_encode(m) for m in masks], (60, 80)), pool)
    segments = [label_map == label for label_map in pool for label in np.unique(label_map)]
    for row, mask in enumerate(masks):
        ious = [(mask & s).sum() / (mask | s).sum() for s in segments]
        assert best.iou[row] == pytest.approx(max(ious), abs=1e-12)
        found = best.masks.mask(row)
        assert (mask & found).sum() / (mask | found).sum() == pytest.approx(max(ious), abs=1e-12)
    assert best.iou[0] > 0.9


def test_without_scikit_image_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r"pip install 'uniovseg_jax\[eval\]'"):
        superpixel_pool(np.zeros((4, 4, 3), np.uint8), 10)
