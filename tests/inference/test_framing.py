"""Images on their way into the network: sizes, padding, and where points and boxes land."""

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.inference.framing import Letterbox, ShortSide, short_side_hw
from uniovseg_jax.proposals import point_grid

MEAN = (10.5, 20.25, 30.0)


def _image(hw, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def test_the_grid_of_a_letterbox_is_the_point_grid():
    source = Letterbox(64)(_image((101, 128)))
    np.testing.assert_array_equal(source.grid(4), point_grid(4, (128, 101), 64))
    assert source.pixels.dtype == np.uint8


@pytest.mark.parametrize("image_hw", [(100, 128), (32, 16), (1, 3)])
@pytest.mark.parametrize("framing", [Letterbox(64), ShortSide(40, 96, 32, MEAN)])
def test_the_box_of_the_image_becomes_the_box_of_its_content(image_hw, framing):
    source = framing(_image(image_hw))
    edges = np.array(image_hw) * source.box_scale[::-1]
    np.testing.assert_allclose(edges, source.content_hw, atol=0.5)


@pytest.mark.parametrize(
    ("image_hw", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((512, 683), (800, 1067)),
        ((300, 600), (667, 1333)),
        ((1024, 2048), (667, 1333)),
        ((7, 3000), (3, 1333)),
        ((500, 500), (800, 800)),
        ((1, 1), (800, 800)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_sizes_are_those_of_detectron2(image_hw, expected):
    assert short_side_hw(image_hw, 800, 1333) == expected


def test_cityscapes_is_not_resized():
    assert short_side_hw((1024, 2048), 1024, 2560) == (1024, 2048)


@pytest.mark.parametrize("seed", range(30))
def test_sizes_are_those_of_the_rule_written_out(seed):
    h, w = np.random.default_rng(seed).integers(1, 4000, 2).tolist()
    scale = 800 / min(h, w)
    new_h, new_w = (800, scale * w) if h < w else (scale * h, 800)
    if max(new_h, new_w) > 1333:
        scale = 1333 / max(new_h, new_w)
        new_h, new_w = new_h * scale, new_w * scale
    expected = max(1, int(new_h + 0.5)), max(1, int(new_w + 0.5))
    assert short_side_hw((h, w), 800, 1333) == expected


def test_the_short_side_is_resized_by_pillow_and_padded_with_the_mean():
    image = _image((50, 70))
    source = ShortSide(40, 96, 32, MEAN)(image)
    assert source.pixels.shape == (64, 64, 3) and source.content_hw == (40, 56)
    expected = np.asarray(Image.fromarray(image).resize((56, 40), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(source.pixels[:40, :56], expected)
    np.testing.assert_array_equal(source.pixels[40:], np.broadcast_to(MEAN, (24, 64, 3)))
    np.testing.assert_array_equal(source.pixels[:40, 56:], np.broadcast_to(MEAN, (40, 8, 3)))


def test_points_of_the_short_side_lie_on_the_content_and_not_on_the_padding():
    source = ShortSide(40, 96, 64, MEAN)(_image((50, 70)))
    relative = (np.arange(5) + 0.5) / 5
    x, y = np.meshgrid(relative * 55, relative * 39)
    np.testing.assert_allclose(source.grid(5), np.stack([x.ravel(), y.ravel()], 1), rtol=1e-6)
    corners = np.array([[0, 0], [69, 49]]) * source.point_scale
    np.testing.assert_allclose(corners, [[0, 0], [55, 39]])


def test_an_image_that_has_the_size_is_left_as_it_is():
    image = _image((40, 64))
    np.testing.assert_array_equal(ShortSide(40, 96, 32, MEAN)(image).pixels[:40, :64], image)


@pytest.mark.parametrize(("values", "words"), [((40, 96, 16), "multiple of 32"), ((9, 8, 32), "<")])
def test_impossible_sizes_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ShortSide(*values, MEAN)


@pytest.mark.parametrize("framing", [Letterbox(64), ShortSide(40, 96, 32, MEAN)])
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_rgb_image_are_refused_with_their_shape(image, framing):
    with pytest.raises(ValueError, match="must be a uint8 array of height x width x 3"):
        framing(image)
