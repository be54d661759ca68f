"""Masks of one bit a pixel, against pycocotools and dense arrays."""

import numpy as np
import pytest

from uniovseg_jax import packed_masks
from uniovseg_jax.masks import mask_iou_matrix
from uniovseg_jax.packed_masks import PackedMasks, packed_iou, paired_iou


def _odd_masks(rng, count, hw):
    """Random rectangles and noise, and every odd one: empty, full, single pixels, borders."""
    masks = np.zeros((count, *hw), bool)
    for mask in masks:
        y, x = rng.integers(0, hw[0]), rng.integers(0, hw[1])
        mask[y : y + rng.integers(1, hw[0] + 1), x : x + rng.integers(1, hw[1] + 1)] = True
        if rng.random() < 0.5:
            mask &= rng.random(hw) < 0.6
    masks[0], masks[1] = False, True
    masks[2:6] = False
    masks[2, 0, 0] = masks[3, -1, -1] = True
    masks[4, :, -1] = masks[5, 0] = True
    return masks


def _coco_iou(a, b):
    coco = pytest.importorskip("pycocotools.mask")
    a, b = (coco.encode(np.asfortranarray(m.transpose(1, 2, 0).astype(np.uint8))) for m in (a, b))
    return coco.iou(a, b, [0] * len(b))


@pytest.mark.parametrize("hw", [(1, 1), (3, 7), (5, 8), (9, 63), (4, 64), (7, 65), (31, 130)])
def test_masks_come_back_and_overlaps_are_those_of_pycocotools(hw):
    rng = np.random.default_rng(hw[1])
    a, b = _odd_masks(rng, 11, hw), _odd_masks(rng, 17, hw)
    packed_a, packed_b = PackedMasks.from_masks(a, hw), PackedMasks.from_masks(list(b), hw)
    assert len(packed_b) == 17 and packed_b.hw == hw
    for index, mask in enumerate(b):
        np.testing.assert_array_equal(packed_b.mask(index), mask)
    np.testing.assert_array_equal(packed_b.areas, b.sum(axis=(1, 2)))
    iou = packed_iou(packed_a, packed_b)
    both_empty = ~a.any(axis=(1, 2))[:, None] & ~b.any(axis=(1, 2))
    # pycocotools divides 0 by 0 there.
    expected = np.where(both_empty, 0.0, _coco_iou(a, b))
    np.testing.assert_allclose(iou, expected, rtol=1e-12)
    np.testing.assert_array_equal(iou, mask_iou_matrix(a, b))


def test_boxes_are_tight_and_zero_where_empty():
    masks = np.zeros((3, 6, 70), bool)
    masks[0, 2:4, 63:66] = True
    masks[2] = True
    boxes = PackedMasks.from_masks(masks, (6, 70)).boxes_xyxy
    np.testing.assert_array_equal(boxes, [[63, 2, 66, 4], [0, 0, 0, 0], [0, 0, 70, 6]])


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (PackedMasks.from_masks(_odd_masks(rng, 20, (33, 77)), (33, 77)) for _ in range(2))
    whole = packed_iou(a, b)
    monkeypatch.setattr(packed_masks, "_BLOCK_WORDS", 1)
    np.testing.assert_array_equal(packed_iou(a, b), whole)


def test_paired_overlaps_are_the_blocks_on_the_diagonal():
    rng = np.random.default_rng(1)
    hw = (20, 70)
    a = PackedMasks.from_masks(_odd_masks(rng, 6, hw), hw)
    b = PackedMasks.from_masks(_odd_masks(rng, 18, hw), hw)
    blocks = packed_iou(a, b).reshape(6, 6, 3)
    np.testing.assert_array_equal(paired_iou(a, b), blocks[np.arange(6), np.arange(6)])


def test_sets_without_masks_have_empty_tables():
    some, none = PackedMasks.from_masks(np.ones((2, 3, 9), bool), (3, 9)), np.ones((0, 3, 9), bool)
    none = PackedMasks.from_masks(none, (3, 9))
    assert packed_iou(some, none).shape == (2, 0) and packed_iou(none, some).shape == (0, 2)
    assert paired_iou(some, none).shape == (2, 0) and none.boxes_xyxy.shape == (0, 4)


def test_sets_that_do_not_go_together_are_refused():
    a = PackedMasks.from_masks(np.ones((2, 3, 9), bool), (3, 9))
    with pytest.raises(ValueError, match=r"\(3, 9\) and \(3, 10\) pixels cannot be compared"):
        packed_iou(a, PackedMasks.from_masks(np.ones((2, 3, 10), bool), (3, 10)))
    with pytest.raises(ValueError, match="3 masks cannot be shared out among 2"):
        paired_iou(a, PackedMasks.from_masks(np.ones((3, 3, 9), bool), (3, 9)))
