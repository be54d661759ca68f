"""Resizing equals OpenCV's to the last bit."""

import math

import numpy as np
import pytest

from uniovseg_jax.benchmarks.preparation.opencv_resize import resize_linear, resize_nearest

_SMALL = (np.arange(63).reshape(7, 9) * 97 % 251).astype(np.uint8)


def _taps(size, new):
    """Both pixels and their weights in 2048ths, for each new pixel of one axis."""
    for index in range(new):
        position = float(np.float32((index + 0.5) * (1 / (new / size)) - 0.5))
        low = math.floor(position)
        upper = float(np.float32(position - low))
        weights = [round((1 - upper) * 2048), round(upper * 2048)]
        yield [min(max(low + n, 0), size - 1) for n in (0, 1)], weights


def _linear_in_float64(image, hw):
    """The rule of OpenCV, pixel by pixel: every product and quotient below is exact."""
    out = np.zeros(hw)
    for i, (rows, down) in enumerate(_taps(image.shape[0], hw[0])):
        for j, (columns, across) in enumerate(_taps(image.shape[1], hw[1])):
            total = 2.0
            for row, weight in zip(rows, down, strict=True):
                wide = sum(float(image[row, c]) * w for c, w in zip(columns, across, strict=True))
                total += math.floor(math.floor(wide / 16) * weight / 65536)
            out[i, j] = math.floor(total / 4)
    return out


@pytest.mark.parametrize("seed", range(12))
def test_linear_equals_the_rule_in_float64(seed):
    rng = np.random.default_rng(seed)
    (h, w), hw = rng.integers(1, 40, 2), tuple(int(n) for n in rng.integers(1, 30, 2))
    image = rng.integers(0, 256, (h, w, 3), np.uint8)
    out = resize_linear(image, hw)
    assert out.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(
            out[..., channel], _linear_in_float64(image[..., channel], hw)
        )


def test_linear_does_not_smooth_before_it_shrinks():
    stripes = np.tile(np.array([0, 255, 0], np.uint8), (3, 4))  # Every third column, from 1.
    # New pixel i has its centre on column 3 i + 1; a smoothing filter would give 85.
    assert resize_linear(stripes, (1, 4)).tolist() == [[255] * 4]


def test_results_of_opencv_itself():
    # cv2.resize(small, (6, 5), ...) of OpenCV 4.10.
    assert resize_linear(_SMALL, (5, 6)).tolist() == [
        [48, 156, 76, 184, 116, 73],
        [178, 136, 80, 151, 120, 78],
        [133, 91, 173, 131, 151, 108],
        [163, 120, 90, 160, 105, 62],
        [168, 125, 57, 165, 85, 193],
    ]
    assert resize_nearest(_SMALL, (5, 6)).tolist() == [
        [0, 97, 40, 137, 80, 177],
        [120, 217, 160, 6, 200, 46],
        [240, 86, 29, 126, 69, 166],
        [229, 75, 18, 115, 58, 155],
        [98, 195, 138, 235, 178, 24],
    ]


def test_nearest_takes_the_upper_left_pixel_and_keeps_16_bits():
    labels = np.arange(36, dtype=np.uint16).reshape(6, 6) * 1000
    out = resize_nearest(labels, (2, 3))
    assert out.dtype == np.uint16
    np.testing.assert_array_equal(out, labels[::3, ::2])
    np.testing.assert_array_equal(resize_nearest(out, (6, 6)), out.repeat(3, 0).repeat(2, 1))
