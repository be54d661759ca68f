import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from uniovseg_jax.ops import norm_mlp as ops

_EPS = 1e-2


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ops, "_CHUNK_ROWS", 9)


def _case(shape=(2, 3, 4, 5)):
    rng = np.random.default_rng(0)
    c = shape[-1]
    shapes = [(c,), (c,), (c, 4 * c), (4 * c,), (4 * c, c), (c,)]
    params = ops.NormMlpParams(*(jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes))
    x, grad = (jnp.asarray(rng.normal(size=shape), jnp.float32) for _ in range(2))
    return x, params, grad


def _norm_mlp_float64(x, params):
    x = np.asarray(x, np.float64)
    p = [np.asarray(a, np.float64) for a in params]
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + _EPS)
    y = (y * p[0] + p[1]) @ p[2] + p[3]
    return y * scipy.special.ndtr(y) @ p[4] + p[5]


@pytest.mark.parametrize("form", [ops.norm_mlp, ops.norm_mlp_whole, ops.norm_mlp_chunked])
def test_every_form_equals_the_definition(form):
    x, params, _ = _case()
    expected = _norm_mlp_float64(x, params)
    np.testing.assert_allclose(form(x, params, _EPS), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 2, 2, 3), (12, 1, 3, 4)])
def test_gradients_equal_those_of_the_whole_map(shape):
    x, params, grad = _case(shape)

    def gradients(form):
        return jax.jit(
            jax.grad(lambda x, params: jnp.sum(form(x, params, _EPS) * grad), argnums=(0, 1))
        )(x, params)

    got, expected = gradients(ops.norm_mlp), gradients(ops.norm_mlp_whole)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


def test_bfloat16_maps_stay_bfloat16():
    x, params, _ = _case()
    got = ops.norm_mlp(x.astype(jnp.bfloat16), params, _EPS)
    assert got.dtype == jnp.bfloat16
    exact = _norm_mlp_float64(x, params)
    np.testing.assert_allclose(got.astype(jnp.float32), exact, atol=0.05 * np.abs(exact).max())
