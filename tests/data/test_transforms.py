"""Augmentation: image and masks stay together, prompts lie where they should."""

import collections

import numpy as np
import pytest

from uniovseg_jax.data import transforms


def scene(h=40, w=64):
    """A white box on black and its mask."""
    mask = np.zeros((1, h, w), bool)
    mask[0, 8:20, 12:40] = True
    return np.where(mask[0, ..., None], 255, 0).repeat(3, -1).astype(np.uint8), mask


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.0, 1.2, 1.7])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.4, 1.0])
def test_masks_follow_the_image(scale, flip, offset):
    image, masks = scene()
    image, masks, (w, h) = transforms.scale_and_crop(image, masks, 64, scale, offset, flip)
    white = image[:h, :w, 0] > 127
    assert np.mean(white != masks[0, :h, :w]) < 0.01
    assert masks.any()
    assert (image[h:] == 128).all() and (image[:, w:] == 128).all()
    assert not masks[0, h:].any() and not masks[0, :, w:].any()


def test_a_fitting_image_is_not_touched():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    masks = rng.random((2, 64, 64)) < 0.5
    same, same_masks, size = transforms.scale_and_crop(image, masks, 64, 1.0, 0.3, False)
    np.testing.assert_array_equal(same, image)
    np.testing.assert_array_equal(same_masks, masks)
    assert size == (64, 64)


@pytest.mark.parametrize("scale", [0.875, 1.0, 1.125])
def test_zooming_keeps_the_size_and_needs_no_grey_border(scale):
    image = np.full((32, 32, 3), (200, 90, 20), np.uint8)
    zoomed = transforms.jitter_scale(image, scale, np.random.default_rng(0))
    np.testing.assert_array_equal(zoomed, image)


def test_masks_of_forbidden_area_are_dropped_and_the_rest_is_padded():
    masks = np.zeros((4, 10, 10), bool)
    masks[0, 0, 0] = True  # 1 %
    masks[1, :5] = True  # 50 %
    masks[2, :9] = True  # 90 %
    chosen, valid = transforms.choose_masks(masks, 3, (0.01, 0.8), np.random.default_rng(0))
    assert valid.tolist() == [True, True, False]
    assert sorted(chosen.sum((1, 2)).tolist()) == [0, 1, 50]


def test_more_masks_than_slots_are_a_random_choice():
    masks = np.eye(6, dtype=bool).reshape(6, 2, 3)
    draws = {
        tuple(np.argmax(transforms.choose_masks(masks, 2, (0.0, 1.0), rng)[0].reshape(2, 6), 1))
        for rng in map(np.random.default_rng, range(40))
    }
    assert len(draws) > 10 and all(a != b for a, b in draws)


def test_points_stay_in_their_cells_and_off_the_padding():
    points = transforms.jittered_points(4, (81, 41), np.random.default_rng(0)).reshape(4, 4, 2)
    for i in range(4):
        assert (20 * i <= points[:, i, 0]).all() and (points[:, i, 0] <= 20 * (i + 1)).all()
        assert (10 * i <= points[i, :, 1]).all() and (points[i, :, 1] <= 10 * (i + 1)).all()


def test_boxes_repeat_in_turn_and_enclose_their_masks():
    masks = np.zeros((3, 8, 8), bool)
    masks[0, 1:3, 2:7] = masks[1, 4:, 0] = True
    valid = np.array([True, True, False])
    boxes, index, box_valid = transforms.boxes_of_masks(masks, valid, 5)
    assert index.tolist() == [0, 1, 0, 1, 0] and box_valid.all()
    np.testing.assert_array_equal(boxes[:2], [[2, 1, 7, 3], [0, 4, 1, 8]])


def test_without_masks_no_box_counts():
    boxes, _, box_valid = transforms.boxes_of_masks(np.zeros((2, 4, 4), bool), np.zeros(2, bool), 3)
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
