import numpy as np
import pytest

from uniovseg_jax.inference import full_size
from uniovseg_jax.inference.full_size import FullSizeLogits, NetworkInput
from uniovseg_jax.ops.resize import resize_bilinear_numpy
from uniovseg_jax.proposals import point_grid


def _logits(seed=0, n=3, hw=(16, 16)):
    return np.random.default_rng(seed).normal(size=(n, *hw)).astype(np.float32)


def _two_steps(logits, input_hw, content_hw, image_hw):
    up = resize_bilinear_numpy(logits, input_hw)
    return resize_bilinear_numpy(up[:, : content_hw[0], : content_hw[1]], image_hw)


@pytest.mark.parametrize(
    ("content_hw", "image_hw"),
    [((64, 64), (64, 64)), ((48, 64), (150, 200)), ((64, 37), (31, 18)), ((1, 64), (1, 3000))],
)
def test_one_composed_resize_equals_upsampling_cropping_and_resizing(content_hw, image_hw):
    logits = _logits()
    full = FullSizeLogits(logits, (64, 64), content_hw, image_hw)
    expected = _two_steps(logits, (64, 64), content_hw, image_hw)
    np.testing.assert_allclose(np.stack([full.mask(i) for i in range(3)]), expected, atol=1e-5)


def test_row_blocks_cover_the_image_once_and_equal_the_whole(monkeypatch):
    logits = _logits(1)
    full = FullSizeLogits(logits, (64, 64), (48, 64), (150, 200))
    monkeypatch.setattr(full_size, "_BLOCK_BYTES", 4 * 200 * 3 * 7)
    blocks = list(full.row_blocks())
    assert [rows.start for rows, _ in blocks] == list(range(0, 150, 7))
    joined = np.concatenate([block for _, block in blocks], axis=1)
    expected = _two_steps(logits, (64, 64), (48, 64), (150, 200))
    np.testing.assert_allclose(joined, expected, atol=1e-5)


def test_logits_at_their_own_size_are_unchanged():
    logits = _logits(2, hw=(5, 9))
    np.testing.assert_array_equal(FullSizeLogits.at_own_size(logits).mask(1), logits[1])


def test_select_keeps_the_geometry():
    full = FullSizeLogits(_logits(3), (64, 64), (48, 64), (20, 30))
    np.testing.assert_array_equal(full.select(np.array([2])).mask(0), full.mask(2))


def test_points_of_the_image_land_where_the_point_grid_puts_them():
    source = NetworkInput.from_image(np.zeros((101, 128, 3), np.uint8), 64)
    relative = (np.arange(4) + 0.5) / 4
    x, y = np.meshgrid(relative * 127, relative * 100)
    points = np.stack([x.ravel(), y.ravel()], 1) * source.scale
    np.testing.assert_allclose(points, point_grid(4, source.image_wh, 64), atol=1e-5)


@pytest.mark.parametrize("image_hw", [(100, 128), (32, 16), (1, 3)])
def test_the_box_of_the_image_becomes_the_box_of_its_content(image_hw):
    source = NetworkInput.from_image(np.zeros((*image_hw, 3), np.uint8), 64)
    edges = np.array(image_hw) * source.box_scale
    assert edges.max() == 64
    np.testing.assert_allclose(edges, source.content_hw, atol=0.5)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_rgb_image_are_refused_with_their_shape(image):
    with pytest.raises(ValueError, match="must be a uint8 array of height x width x 3"):
        NetworkInput.from_image(image, 64)
