"""Points of the mask losses."""

import jax
import jax.numpy as jnp
import numpy as np

from uniovseg_jax import point_sampling
from uniovseg_jax.ops.grid_sample import grid_sample


def test_sample_masks_equals_grid_sample():
    rng = np.random.default_rng(0)
    masks = rng.random((5, 12, 24)) < 0.5
    bits = jnp.asarray(np.packbits(masks, axis=-1))
    points = jnp.asarray(rng.uniform(-0.1, 1.1, (300, 2)), jnp.float32)
    features = jnp.moveaxis(jnp.asarray(masks, jnp.float32), 0, -1)[None]
    expected = grid_sample(features, points[None])[0].T
    np.testing.assert_allclose(point_sampling.sample_masks(bits, points), expected, atol=1e-6)


def test_masks_read_in_steps_are_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    bits = jnp.asarray(rng.integers(0, 256, (5, 12, 3), np.uint8))
    points = jnp.asarray(rng.uniform(-0.1, 1.1, (300, 2)), jnp.float32)
    whole = point_sampling.sample_masks(bits, points)
    monkeypatch.setattr(point_sampling, "_CHUNK", 64)
    np.testing.assert_array_equal(point_sampling.sample_masks(bits, points), whole)


def test_kth_smallest_equals_sort():
    rng = np.random.default_rng(1)
    values = np.abs(rng.standard_normal((6, 4, 101))).astype(np.float32)
    values[0] *= 1e-30
    values[1] *= 1e30
    values[2] = rng.integers(0, 3, (4, 101))
    values[3, 0] = 0.0
    for k in (1, 2, 50, 101):
        found = jax.jit(point_sampling.kth_smallest, static_argnums=1)(jnp.asarray(values), k)
        np.testing.assert_array_equal(found[..., 0], np.sort(values, axis=-1)[..., k - 1])


def test_choose_points_takes_the_uncertain_and_the_rest():
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((7, 40)).astype(np.float32)
    chosen = np.asarray(point_sampling.choose_points(jnp.asarray(logits), 30, 9))
    for row, of_row in zip(logits, chosen, strict=True):
        expected = set(np.argsort(np.abs(row[:30]))[:9]) | set(range(30, 40))
        assert set(np.flatnonzero(of_row)) == expected
