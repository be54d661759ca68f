import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.ops import pooling

_MODES = ["binary", "binary_or_soft", "area"]


@pytest.mark.parametrize("mode", _MODES)
def test_a_mask_of_everything_gives_the_mean(mode):
    features = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    pooled = pooling.mask_pooling(features, jnp.full((2, 1, 12, 16), 4.0), mode)
    np.testing.assert_allclose(pooled[:, 0], features.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize("mode", ["binary", "area"])
def test_an_empty_mask_gives_zero(mode):
    pooled = pooling.mask_pooling(jnp.ones((1, 2, 2, 3)), jnp.full((1, 5, 4, 4), -9.0), mode)
    np.testing.assert_array_equal(pooled, jnp.zeros((1, 5, 3)))


def test_soft_weights_step_in_only_for_empty_masks():
    logits = jnp.full((1, 2, 2, 2), -2.0).at[0, 0, 0, 0].set(-1.0).at[0, 1, 1, 1].set(3.0)
    weights = pooling.mask_weights(logits, (2, 2), "binary_or_soft")
    soft = np.array([[1 / (1 + np.e), 1 / (1 + np.e**2)], [1 / (1 + np.e**2)] * 2])
    np.testing.assert_allclose(weights[0, 0], soft / soft.sum(), atol=1e-6)
    np.testing.assert_array_equal(weights[0, 1], [[0, 0], [0, 1]])


def test_binary_thresholds_the_resized_logits_at_zero():
    # 2 x 2 means of the logits: 0.25 counts, exactly 0 counts, -0.5 does not.
    logits = jnp.array([[1.0, 0, 1, -1, -2, 0], [0, 0, 0, 0, 0, 0]]).reshape(1, 1, 2, 6)
    weights = pooling.mask_weights(logits, (1, 3), "binary")
    np.testing.assert_allclose(weights[0, 0, 0], [0.5, 0.5, 0])


def test_area_weighs_cells_by_the_covered_fraction():
    logits = jnp.full((1, 1, 8, 8), -1.0).at[0, 0, :2, :5].set(0.0)
    weights = pooling.mask_weights(logits, (2, 2), "area")
    np.testing.assert_allclose(weights[0, 0], [[0.8, 0.2], [0, 0]], atol=1e-6)


def test_area_of_sizes_that_do_not_divide_loses_no_mask():
    logits = jnp.full((1, 1, 10, 10), -1.0).at[0, 0, 4, 4].set(1.0)
    weights = pooling.mask_weights(logits, (3, 3), "area")
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-6)
    assert np.argmax(weights) == 4


@pytest.mark.parametrize("mode", _MODES)
def test_weights_sum_to_one_and_carry_no_gradient(mode):
    logits = jax.random.normal(jax.random.key(1), (2, 3, 16, 16))
    weights = pooling.mask_weights(logits, (4, 4), mode)
    np.testing.assert_allclose(weights.sum((-2, -1)), np.ones((2, 3)), atol=1e-6)
    features = jnp.ones((2, 4, 4, 2))
    grad = jax.grad(lambda x: (pooling.mask_pooling(features, x, mode) ** 2).sum())(logits)
    assert not grad.any()


def test_an_unknown_mode_is_refused():
    # The public function is typed; a wrong name can still come from a configuration file.
    weights = getattr(pooling.mask_weights, "__wrapped__", pooling.mask_weights)
    with pytest.raises(ValueError, match="Unknown pooling mode 'mean'"):
        weights(jnp.zeros((1, 1, 2, 2)), (2, 2), "mean")
