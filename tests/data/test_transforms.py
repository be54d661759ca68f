"""Augmentation: image and masks stay together, prompts lie where they should."""

import collections

import numpy as np
import pytest

from uniovseg_jax.data import transforms
from uniovseg_jax.data.crop import Crop
from uniovseg_jax.masks import rle_encode


@pytest.mark.parametrize("scale", [0.875, 1.0, 1.125])
def test_zooming_keeps_the_size_and_needs_no_grey_border(scale):
    image = np.full((32, 32, 3), (200, 90, 20), np.uint8)
    zoomed = transforms.jitter_scale(image, scale, np.random.default_rng(0))
    np.testing.assert_array_equal(zoomed, image)


def whole(masks):
    """Run lengths of masks, and the cut that shows all of them as they are."""
    return [rle_encode(mask) for mask in masks], Crop(*masks.shape[1:], masks.shape[-1])


def test_masks_of_forbidden_area_are_dropped():
    masks = np.zeros((4, 10, 10), bool)
    masks[0, 0, 0] = True  # 1 %
    masks[1, :5] = True  # 50 %
    masks[2, :9] = True  # 90 %
    blocks = transforms.choose_masks(*whole(masks), 3, (0.01, 0.8), np.random.default_rng(0))
    assert sorted(block.pixels.sum() for block in blocks) == [1, 50]


def test_more_masks_than_wanted_are_a_random_choice():
    masks = np.eye(36, dtype=bool).reshape(36, 6, 6)[:6]
    draws = set()
    for seed in range(40):
        blocks = transforms.choose_masks(*whole(masks), 2, (0.0, 1.0), np.random.default_rng(seed))
        draws.add(tuple(block.left for block in blocks))
    assert len(draws) > 10 and all(a != b for a, b in draws)


def test_packed_masks_are_the_masks():
    rng = np.random.default_rng(0)
    masks = np.zeros((5, 24, 24), bool)
    for mask in masks:
        y, x = rng.integers(0, 20, 2)
        mask[y : y + rng.integers(1, 24), x : x + rng.integers(1, 24)] = rng.random() < 2
        mask &= rng.random(mask.shape) < 0.7
    masks[4] = True
    rles, crop = whole(masks)
    blocks = [crop.cut_mask(rle) for rle in rles]
    packed = transforms.pack_masks(blocks, 7, 24)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=-1)[:5], masks)
    assert not packed[5:].any()


def test_each_change_of_colours_has_its_range_and_happens_half_of_the_time():
    drawn = np.stack([transforms.draw_colours(np.random.default_rng(i)) for i in range(2000)])
    for column, still, low, high in zip(
        drawn.T, (0, 1, 1, 0), (-32, 0.5, 0.5, -0.1), (32, 1.5, 1.5, 0.1), strict=False
    ):
        moved = column[column != still]
        assert 0.45 < len(moved) / len(column) < 0.55
        reach = high - low
        assert low <= moved.min() < low + 0.02 * reach
        assert high >= moved.max() > high - 0.02 * reach
    assert set(drawn[:, 4]) == {0, 1} and 0.45 < drawn[:, 4].mean() < 0.55
    together = np.corrcoef((drawn[:, :4] != [0, 1, 1, 0]).T) - np.eye(4)
    assert np.abs(together).max() < 0.1


def test_points_stay_in_their_cells_and_off_the_padding():
    points = transforms.jittered_points(4, (81, 41), np.random.default_rng(0)).reshape(4, 4, 2)
    for i in range(4):
        assert (20 * i <= points[:, i, 0]).all() and (points[:, i, 0] <= 20 * (i + 1)).all()
        assert (10 * i <= points[i, :, 1]).all() and (points[i, :, 1] <= 10 * (i + 1)).all()


def test_boxes_repeat_in_turn_and_enclose_their_masks():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 1:3, 2:7] = masks[1, 4:, 0] = True
    rles, crop = whole(masks)
    blocks = [crop.cut_mask(rle) for rle in rles]
    rng = np.random.default_rng(0)
    boxes, index, box_valid = transforms.draw_boxes(blocks, 5, rng)
    assert index.tolist() == [0, 1, 0, 1, 0] and box_valid.all()
    np.testing.assert_array_equal(boxes[:2], [[2, 1, 7, 3], [0, 4, 1, 8]])
    drawn = {int(transforms.draw_boxes(blocks, 1, rng)[1][0]) for _ in range(20)}
    assert drawn == {0, 1}


def test_without_masks_no_box_counts():
    boxes, _, box_valid = transforms.draw_boxes([], 3, np.random.default_rng(0))
    assert not box_valid.any() and not boxes.any()


def test_phrases_are_drawn_evenly_and_every_other_one_is_a_lone_noun():
    rng = np.random.default_rng(0)
    drawn = [
        transforms.draw_phrase("a red ball and an old house on grass", rng) for _ in range(1200)
    ]
    shares = {text: count / 1200 for text, count in collections.Counter(drawn).items()}
    expected = {
        "red ball": 1 / 6,
        "ball": 1 / 6,
        "old house": 1 / 6,
        "house": 1 / 6,
        "grass": 1 / 3,
    }
    assert shares == pytest.approx(expected, abs=0.04)


def test_a_caption_without_things_is_kept():
    assert transforms.draw_phrase("a photo of it", np.random.default_rng(0)) == "a photo of it"
