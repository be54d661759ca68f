import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from uniovseg_jax.models import layers
from uniovseg_jax.ops.gelu import gelu


def test_l2_normalize_leaves_zero_at_zero_with_a_finite_gradient():
    x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(layers.l2_normalize(x), [[0.6, 0.8], [0.0, 0.0]], atol=1e-7)
    assert np.isfinite(jax.grad(lambda x: layers.l2_normalize(x).sum())(x)).all()


def test_layer_norm_survives_a_large_mean():
    x = 1000 + jax.random.normal(jax.random.key(0), (4, 64))
    norm = layers.make_layer_norm(1e-6, jnp.float32)
    got = norm.apply(norm.init(jax.random.key(0), x), x)
    exact = np.asarray(x, np.float64)
    exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
    np.testing.assert_allclose(got, exact, atol=1e-3)


def test_bounds_of_the_initialisers():
    key = jax.random.key(0)
    for init, shape, bound in (
        (layers.xavier_uniform, (64, 192), math.sqrt(6 / 256)),
        (layers.fused_qkv_init, (64, 64), math.sqrt(6 / 256)),
        (layers.torch_kernel_init, (64, 10), 1 / 8),
        (layers.torch_bias_init(64), (500,), 1 / 8),
    ):
        largest = float(jnp.abs(init(key, shape, jnp.float32)).max())
        assert 0.95 * bound < largest <= bound


def test_fused_bound_holds_for_the_kernels_of_the_attention():
    attention = layers.MultiHeadAttention(256, 8)
    x = jnp.zeros((1, 2, 256))
    params = attention.init(jax.random.key(0), x, x, x)["params"]
    for name in ("query", "key", "value"):
        assert params[name]["kernel"].shape == (256, 8, 32)
        assert float(jnp.abs(params[name]["kernel"]).max()) == pytest.approx(0.0765, abs=1e-3)
    assert params["out"]["kernel"].shape == (8, 32, 256)
    assert float(jnp.abs(params["out"]["kernel"]).max()) == pytest.approx(0.108, abs=1e-3)


@pytest.fixture(scope="module")
def attention_case():
    attention = layers.MultiHeadAttention(12, 3)
    keys = jax.random.split(jax.random.key(0), 4)
    queries = jax.random.normal(keys[0], (2, 5, 12))
    memory = jax.random.normal(keys[1], (2, 7, 12))
    values = jax.random.normal(keys[2], (2, 7, 12))
    variables = attention.init(keys[3], queries, memory, values)
    # Biases start at zero; give them something to do.
    variables = jax.tree.map(lambda x: x + 0.1 if x.ndim < 3 else x, variables)
    return attention, variables, queries, memory, values


def _attention_float64(variables, queries, keys, values, mask):
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), variables["params"])

    def project(name, x):
        return np.einsum("btd,dhe->bthe", np.asarray(x), p[name]["kernel"]) + p[name]["bias"]

    query, key, value = project("query", queries), project("key", keys), project("value", values)
    logits = np.einsum("bthe,bshe->bhts", query, key) / math.sqrt(query.shape[-1])
    probs = scipy.special.softmax(np.where(mask, logits, -np.inf), axis=-1)
    mixed = np.einsum("bhts,bshe->bthe", probs, value)
    return np.einsum("bthe,hed->btd", mixed, p["out"]["kernel"]) + p["out"]["bias"]


def test_attention_equals_the_definition(attention_case):
    attention, variables, queries, memory, values = attention_case
    mask = np.random.default_rng(0).random((2, 1, 5, 7)) < 0.6
    mask[..., 0] = True
    got = attention.apply(variables, queries, memory, values, jnp.asarray(mask))
    expected = _attention_float64(variables, queries, memory, values, mask)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    got = attention.apply(variables, queries, memory, values)
    expected = _attention_float64(variables, queries, memory, values, np.True_)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_keys_and_values_projected_once_give_the_same(attention_case):
    attention, variables, queries, memory, values = attention_case
    key, value = attention.apply(variables, memory, values, method="project_kv")
    got = attention.apply(variables, queries, key, value, method="attend")
    np.testing.assert_allclose(got, attention.apply(variables, queries, memory, values), atol=1e-6)


def test_attention_equals_torch(attention_case):
    torch = pytest.importorskip("torch")
    attention, variables, queries, memory, values = attention_case
    p = jax.tree.map(lambda x: torch.tensor(np.asarray(x)), variables["params"])
    oracle = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    parts = [p[name] for name in ("query", "key", "value")]
    with torch.no_grad():
        weight = torch.cat([part["kernel"].reshape(12, 12).T for part in parts])
        oracle.in_proj_weight.copy_(weight)
        oracle.in_proj_bias.copy_(torch.cat([part["bias"].reshape(12) for part in parts]))
        oracle.out_proj.weight.copy_(p["out"]["kernel"].reshape(12, 12).T)
        oracle.out_proj.bias.copy_(p["out"]["bias"])
        inputs = [torch.tensor(np.asarray(x)) for x in (queries, memory, values)]
        expected = oracle(*inputs, need_weights=False)[0].numpy()
    got = attention.apply(variables, queries, memory, values)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_mlp_and_ffn_equal_the_definition():
    x = jax.random.normal(jax.random.key(0), (3, 4))
    mlp = layers.MLP(8, 2, num_layers=3)
    variables = mlp.init(jax.random.key(1), x)
    p = {
        k: {n: np.asarray(a, np.float64) for n, a in v.items()}
        for k, v in variables["params"].items()
    }
    y = np.asarray(x, np.float64)
    for i in range(3):
        y = y @ p[f"layers_{i}"]["kernel"] + p[f"layers_{i}"]["bias"]
        y = np.maximum(y, 0) if i < 2 else y
    np.testing.assert_allclose(mlp.apply(variables, x), y, atol=1e-5)
    ffn = layers.FFN(4, 6, activation=gelu)
    variables = ffn.init(jax.random.key(1), x)
    p = {
        k: {n: np.asarray(a, np.float64) for n, a in v.items()}
        for k, v in variables["params"].items()
    }
    hidden = np.asarray(x, np.float64) @ p["fc1"]["kernel"] + p["fc1"]["bias"]
    expected = hidden * scipy.special.ndtr(hidden) @ p["fc2"]["kernel"] + p["fc2"]["bias"]
    np.testing.assert_allclose(ffn.apply(variables, x), expected, atol=1e-5)
