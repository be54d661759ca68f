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
