import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.ops import resize


def _maps(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _resize_float64(maps, hw):
    """Half-pixel centres, clamped borders, two neighbours per axis."""
    for axis, size in ((1, hw[0]), (2, hw[1])):
        old = maps.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (position - low).reshape([-1 if i == axis else 1 for i in range(maps.ndim)])
        maps = np.take(maps, low, axis) * (1 - share) + np.take(maps, high, axis) * share
    return maps


@pytest.mark.parametrize("hw", [(14, 18), (3, 4), (20, 5), (7, 9), (1, 1), (13, 31)])
def test_bilinear_equals_the_definition_and_jax_without_antialiasing(hw):
    maps = _maps((2, 7, 9, 3))
    expected = _resize_float64(maps.astype(np.float64), hw)
    got = resize.resize_bilinear(jnp.asarray(maps), hw)
    np.testing.assert_allclose(got, expected, atol=2e-6)
    jax_form = jax.image.resize(maps, (2, *hw, 3), "bilinear", antialias=False)
    np.testing.assert_allclose(got, jax_form, atol=2e-6)
    first = jnp.moveaxis(jnp.asarray(maps), 3, 1)
    np.testing.assert_allclose(
        resize.resize_maps(first, hw), np.moveaxis(expected, 3, 1), atol=2e-6
    )


@pytest.mark.parametrize("hw", [(14, 18), (3, 4), (20, 5)])
def test_bilinear_equals_torch(hw):
    torch = pytest.importorskip("torch")
    maps = _maps((2, 7, 9, 3))
    expected = torch.nn.functional.interpolate(
        torch.tensor(maps).permute(0, 3, 1, 2), hw, mode="bilinear", align_corners=False
    )
    got = resize.resize_bilinear(jnp.asarray(maps), hw)
    np.testing.assert_allclose(got, expected.permute(0, 2, 3, 1).numpy(), atol=2e-6)


@pytest.mark.parametrize("hw", [(14, 18), (3, 4), (20, 5), (7, 9)])
def test_host_version_gives_the_same_numbers(hw):
    maps = _maps((4, 7, 9))
    got = resize.resize_bilinear_numpy(maps, hw)
    np.testing.assert_allclose(got, resize.resize_maps(jnp.asarray(maps), hw), atol=2e-6)
    assert got.dtype == np.float32


def test_halving_is_the_mean_of_two_by_two():
    maps = _maps((3, 8, 12))
    expected = maps.reshape(3, 4, 2, 6, 2).mean((2, 4))
    np.testing.assert_allclose(resize.resize_maps(jnp.asarray(maps), (4, 6)), expected, atol=1e-6)
