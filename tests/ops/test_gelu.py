"""The exact GELU against its definition."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from uniovseg_jax.ops.gelu import gelu


def test_gelu_is_exact_and_so_is_its_gradient():
    x = np.linspace(-8, 8, 401)
    cdf = scipy.special.ndtr(x)
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    got = gelu(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, x * cdf, atol=1e-6)
    slope = jax.vmap(jax.grad(gelu))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(slope, cdf + x * density, atol=1e-6)
    # The tanh approximation is 4e-4 away: this test would notice it.
    assert np.abs(jax.nn.gelu(jnp.asarray(x), approximate=True) - x * cdf).max() > 1e-4


def test_half_precision_keeps_its_digits_where_phi_is_small():
    x = jnp.asarray([-3.0, -2.5, -2.0], jnp.bfloat16)
    exact = np.asarray(x, np.float64) * scipy.special.ndtr(np.asarray(x, np.float64))
    assert gelu(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(gelu(x), np.float64), exact, rtol=2**-8)
