import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convert import reference as reference_form
from uniovseg_jax.models.deformable_attention import DeformableAttention, sampling_offsets_bias

SHAPES = ((2, 3), (4, 6), (8, 12))
NUM_TOKENS = 6 + 24 + 96


@pytest.fixture(scope="module")
def fresh():
    module = DeformableAttention(dim=16, num_heads=8)
    rng = np.random.default_rng(0)
    queries, values = rng.standard_normal((2, 1, NUM_TOKENS, 16)).astype(np.float32)
    reference = rng.uniform(size=(NUM_TOKENS, 2)).astype(np.float32)
    args = (jnp.asarray(queries), jnp.asarray(values), jnp.asarray(reference))
    out, variables = jax.jit(lambda key: module.init_with_output(key, *args, SHAPES))(
        jax.random.key(1)
    )
    return args, out, variables["params"]


def test_initial_offsets_are_eight_directions_at_growing_distance():
    bias = sampling_offsets_bias(8, 3, 4).reshape(8, 3, 4, 2)
    np.testing.assert_allclose(bias[1, :, 3], [[4, 4]] * 3, atol=1e-6)
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    np.testing.assert_allclose(bias[:, 2, 0], directions, atol=1e-6)
    growing = bias[:, :, :1] * np.arange(1, 5)[:, None]
    np.testing.assert_allclose(bias, growing, atol=1e-5)


def test_at_init_every_query_averages_twelve_samples_whatever_it_asks(fresh):
    (_, values, reference), out, params = fresh
    np.testing.assert_array_equal(params["sampling_offsets"]["kernel"], 0)
    np.testing.assert_array_equal(params["attention_weights"]["kernel"], 0)
    value = np.asarray(values[0], np.float64) @ np.asarray(params["value_proj"]["kernel"])
    offsets = np.asarray(params["sampling_offsets"]["bias"]).reshape(8, 3, 4, 2)
    starts = np.cumsum([0] + [h * w for h, w in SHAPES])
    for q in (0, 17, NUM_TOKENS - 1):
        mean = np.zeros(16)
        for head in range(8):
            channels = slice(2 * head, 2 * head + 2)
            for level, (h, w) in enumerate(SHAPES):
                rows = value[starts[level] : starts[level + 1], channels].reshape(h, w, 2)
                for dx, dy in offsets[head, level]:
                    at = (reference[q, 0] + dx / w, reference[q, 1] + dy / h)
                    mean[channels] += reference_form.sample(rows, np.array(at)) / 12
        expected = mean @ np.asarray(params["output_proj"]["kernel"])
        np.testing.assert_allclose(out[0, q], expected, atol=1e-5)


def test_projections_start_within_xaviers_bound_and_biases_at_zero(fresh):
    params = fresh[2]
    bound = np.sqrt(6 / (16 + 16))
    for name in ("value_proj", "output_proj"):
        kernel = np.abs(params[name]["kernel"])
        assert 0.8 * bound < kernel.max() <= bound
        np.testing.assert_array_equal(params[name]["bias"], 0)
