import numpy as np
import pytest

from uniovseg_jax import visualize


def test_colours_depend_on_the_name_and_stay_apart():
    names = [f"name {i}" for i in range(30)]
    colours = visualize.distinct_colours(names)
    np.testing.assert_array_equal(colours, visualize.distinct_colours(names))
    np.testing.assert_array_equal(colours[:1], visualize.distinct_colours(names[:1]))
    difference = colours[:, None].astype(int) - colours[None]
    distance = (difference**2).sum(-1) + 10**6 * np.eye(30, dtype=int)
    assert distance.min() >= 50**2
    assert visualize.distinct_colours([f"n{i}" for i in range(3000)]).shape == (3000, 3)


def test_a_mask_is_outlined_in_red_over_another_in_blue():
    image = np.full((5, 9, 3), 100, np.uint8)
    mask, other = np.zeros((2, 5, 9), bool)
    mask[:, :5] = other[:, 4:] = True
    drawn = visualize.outline_mask(image, mask, other)
    np.testing.assert_array_equal(drawn[2, 2], [100, 100, 100])
    np.testing.assert_array_equal(drawn[2, 6], [185, 185, 185])
    red, blue = drawn[2, 4].tolist(), drawn[2, 8].tolist()
    assert np.argmax(red) == 0 and np.argmax(blue) == 2
    assert drawn[2, 0].tolist() == red
    np.testing.assert_array_equal(visualize.outline_mask(image, mask)[2, 8], [185, 185, 185])


def test_label_map_paints_void_grey_and_label_k_in_colour_k_minus_1():
    colours = np.array([[255, 0, 0], [0, 255, 0]], np.uint8)
    painted = visualize.colour_label_map(np.array([[0, 1, 2]]), colours)
    np.testing.assert_array_equal(painted, [[[40, 40, 40], [255, 0, 0], [0, 255, 0]]])


def test_overlay_tints_segments_leaves_void_and_outlines_between():
    image = np.full((600, 600, 3), 100, np.uint8)
    labels = np.zeros((600, 600), np.int32)
    labels[:, 300:] = 1
    drawn = visualize.overlay(image, labels, np.array([[200, 0, 0]], np.uint8))
    np.testing.assert_array_equal(drawn[5, 5], [100, 100, 100])
    np.testing.assert_array_equal(drawn[5, 500], [150, 50, 50])
    np.testing.assert_array_equal(drawn[5, 299], [255, 255, 255])


def test_captions_are_drawn_inside_the_picture_on_the_segments_colour():
    image = np.zeros((512, 512, 3), np.uint8)
    labels = np.ones((512, 512), np.int32)
    colours = np.array([[0, 200, 0]], np.uint8)
    without = visualize.overlay(image, labels, colours)
    with_name = visualize.overlay(image, labels, colours, {1: "grass"})
    y, x = np.nonzero((without != with_name).any(-1))
    assert (with_name == [0, 200, 0]).all(-1).any()
    assert abs(x.mean() - 256) < 40 and abs(y.mean() - 256) < 40


@pytest.mark.parametrize(
    ("hw", "expected"),
    [((1, 1), (64, 64)), ((64, 48), (512, 384)), ((600, 20), (600, 20)), ((3, 9000), (1, 4096))],
)
def test_overlay_enlarges_small_images_and_reduces_huge_ones(hw, expected):
    image = np.zeros((*hw, 3), np.uint8)
    labels = np.ones(hw, np.int32)
    drawn = visualize.overlay(image, labels, np.array([[9, 9, 9]], np.uint8), {1: "a name"})
    assert drawn.shape[:2] == expected


def test_a_thumbnail_has_a_short_enough_long_side():
    picture = np.full((50, 200, 3), 7, np.uint8)
    assert visualize.thumbnail(picture, 100).shape == (25, 100, 3)
    np.testing.assert_array_equal(visualize.thumbnail(picture, 200), picture)


def test_contact_sheet_holds_every_picture_under_its_title():
    images = [np.full((20, 40, 3), 10 * i, np.uint8) for i in range(1, 4)]
    sheet = visualize.contact_sheet(images, ["a", "b", "a long title " * 20], cell=100)
    assert sheet.shape == (2 * (50 + 24 + 8) + 8, 2 * 108 + 8, 3)
    for value in (10, 20, 30):
        assert (sheet == value).all(-1).sum() >= 40 * 90
