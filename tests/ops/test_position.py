import math

import jax
import jax.numpy as jnp
import numpy as np

from uniovseg_jax.ops import position


def test_fourier_encoding_without_frequencies_is_zeros_then_ones():
    encoded = position.fourier_encoding(jnp.array([[0.3, 0.9]]), jnp.zeros((2, 4)))
    np.testing.assert_array_equal(encoded, [[0, 0, 0, 0, 1, 1, 1, 1]])


def test_fourier_encoding_equals_the_definition_outside_the_image_too():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.2, 1.2, (5, 3, 2)).astype(np.float32)
    matrix = rng.normal(size=(2, 8)).astype(np.float32)
    angle = 2 * math.pi * ((2 * points.astype(np.float64) - 1) @ matrix.astype(np.float64))
    expected = np.concatenate([np.sin(angle), np.cos(angle)], -1)
    got = position.fourier_encoding(jnp.asarray(points), jnp.asarray(matrix))
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_fourier_map_encodes_cell_centres_with_row_0_for_x():
    matrix = jax.random.normal(jax.random.key(0), (2, 3))
    encoded = position.fourier_encoding_map((2, 4), matrix)
    centre = jnp.array([(3 + 0.5) / 4, (1 + 0.5) / 2])
    np.testing.assert_allclose(encoded[1, 3], position.fourier_encoding(centre, matrix), atol=1e-5)
    assert encoded.shape == (2, 4, 6)


def _sine_float64(angle, features):
    return np.array(
        [
            (math.sin if i % 2 == 0 else math.cos)(angle / 10000 ** (2 * (i // 2) / features))
            for i in range(features)
        ]
    )


def test_sine_map_has_features_of_y_then_of_x():
    encoded = position.sine_encoding_map((3, 5), 12)
    y = _sine_float64(2 / (3 + 1e-6) * 2 * math.pi, 6)
    x = _sine_float64(5 / (5 + 1e-6) * 2 * math.pi, 6)
    np.testing.assert_allclose(encoded[1, 4], np.concatenate([y, x]), atol=1e-5)


def test_sine_of_points_takes_pixels():
    encoded = position.sine_encoding_points(jnp.array([[30.0, 7.0]]), (20, 40), 8)
    y = _sine_float64(7 / 20 * 2 * math.pi, 4)
    x = _sine_float64(30 / 40 * 2 * math.pi, 4)
    np.testing.assert_allclose(encoded[0], np.concatenate([y, x]), atol=1e-5)
