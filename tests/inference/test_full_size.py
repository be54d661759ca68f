import numpy as np
import pytest

from uniovseg_jax.inference import full_size
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.ops.resize import resize_bilinear_numpy


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


# Enlarged, cropped, shrunk below the logits' own size, with borders that no tile fits.
_GEOMETRIES = [
    ((64, 64), (150, 200)),
    ((48, 64), (150, 203)),
    ((64, 37), (31, 18)),
    ((64, 64), (5, 7)),
    ((1, 64), (1, 301)),
]


@pytest.mark.parametrize(("content_hw", "image_hw"), _GEOMETRIES)
@pytest.mark.parametrize("side", [8, 16, 32])
def test_tiles_cover_the_image_once_within_their_bounds(content_hw, image_hw, side, monkeypatch):
    logits = _logits(1)
    full = FullSizeLogits(logits, (64, 64), content_hw, image_hw)
    expected = _two_steps(logits, (64, 64), content_hw, image_hw)
    monkeypatch.setattr(full_size, "_TILE", side)
    joined, times = np.zeros((3, *image_hw), np.float32), np.zeros(image_hw, int)
    for tile in full.tiles():
        values = tile.logits()
        joined[:, tile.rows, tile.columns] = values.transpose(2, 0, 1)
        times[tile.rows, tile.columns] += 1
        assert (values.max((0, 1)) <= tile.most + 1e-5).all()
        assert (values.min((0, 1)) >= tile.least - 1e-5).all()
        assert not (values >= 0)[..., tile.most < 0].any()
        assert (values >= 0)[..., tile.least >= 0].all()
        some = np.array([2, 0])
        np.testing.assert_allclose(tile.logits(some), values[..., some], atol=1e-6)
    assert (times == 1).all()
    np.testing.assert_allclose(joined, expected, atol=1e-5)


def test_bounds_are_those_of_few_cells():
    # One hot cell of 64 x 64: of 400 tiles a few can have a part in it.
    logits = np.full((1, 64, 64), -5, np.float32)
    logits[0, 20, 30] = 5
    full = FullSizeLogits(logits, (64, 64), (64, 64), (640, 640))
    possible = [tile.most[0] >= 0 for tile in full.tiles()]
    assert len(possible) == 400 and 1 <= sum(possible) <= 9


@pytest.mark.parametrize(("content_hw", "image_hw"), _GEOMETRIES)
def test_packed_masks_are_the_logits_over_zero(content_hw, image_hw):
    logits = np.repeat(np.repeat(_logits(4, n=5, hw=(4, 4)), 4, axis=1), 4, axis=2)
    logits[3], logits[4] = 1.0, -1.0
    full = FullSizeLogits(logits, (64, 64), content_hw, image_hw)
    packed = full.packed()
    assert packed.hw == image_hw and len(packed) == 5
    for index in range(5):
        np.testing.assert_array_equal(packed.mask(index), full.mask(index) >= 0)
    # Nothing stands behind the end of a row.
    assert packed.areas[3] == image_hw[0] * image_hw[1] and packed.areas[4] == 0


def test_no_masks_give_no_bits():
    empty = FullSizeLogits(np.zeros((0, 4, 4), np.float32), (16, 16), (16, 12), (7, 5)).packed()
    assert len(empty) == 0 and empty.hw == (7, 5)


def test_logits_at_their_own_size_are_unchanged():
    logits = _logits(2, hw=(5, 9))
    np.testing.assert_array_equal(FullSizeLogits.at_own_size(logits).mask(1), logits[1])


def test_select_keeps_the_geometry():
    full = FullSizeLogits(_logits(3), (64, 64), (48, 64), (20, 30))
    np.testing.assert_array_equal(full.select(np.array([2])).mask(0), full.mask(2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_told(value):
    logits = _logits(5)
    logits[1, 7, 9] = value
    full = FullSizeLogits(logits, (64, 64), (64, 64), (96, 96))
    with pytest.raises(ValueError, match="Logits of masks must be finite numbers"):
        full.packed()
