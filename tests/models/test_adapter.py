import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from uniovseg_jax.models import presets
from uniovseg_jax.models.adapter import FeatureAdapter, source_names, source_widths
from uniovseg_jax.models.clip import CLIP

TEST = presets.get_preset("test")
SIDES = {"res2": 16, "p4": 16, "res3": 8, "p8": 8, "res4": 4, "p16": 4, "res5": 2, "p32": 2}


def config_of(source, mode, pooling="binary"):
    adapter = dataclasses.replace(TEST.adapter, source=source, mode=mode, rank=3, scale=0.5)
    return dataclasses.replace(TEST, adapter=adapter, pooling=pooling)


def random_case(config, seed=0):
    rng = np.random.default_rng(seed)
    maps = {
        name: jnp.asarray(rng.standard_normal((2, SIDES[name], SIDES[name], width)), jnp.float32)
        for name, width in source_widths(config).items()
    }
    mask_logits = jnp.asarray(rng.standard_normal((2, 3, 16, 16)), jnp.float32)
    mask_logits = mask_logits.at[0, 0].set(-5.0)  # A mask with no pixel at any scale.
    params = {
        name: {
            "norm": {
                "scale": jnp.asarray(1 + 0.2 * rng.standard_normal(width), jnp.float32),
                "bias": jnp.asarray(0.2 * rng.standard_normal(width), jnp.float32),
            },
            "a": jnp.asarray(rng.standard_normal((width, 3)) / math.sqrt(width), jnp.float32),
            "b": jnp.asarray(rng.standard_normal((3, TEST.clip.widths[-1])), jnp.float32),
        }
        for name, width in source_widths(config).items()
        if name in source_names(config.adapter)
    }
    return {"params": params}, maps, mask_logits


def literal_down(params, x):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    y = (normed * params["norm"]["scale"] + params["norm"]["bias"]) @ np.asarray(params["a"])
    return y * scipy.special.ndtr(y)


def literal_weights(mask_logits, side):
    """Binary masks at a coarser side: bilinear logits are the mean of the middle 2 x 2 pixels."""
    logits = np.asarray(mask_logits, np.float64)
    factor = logits.shape[-1] // side
    if factor > 1:
        cells = logits.reshape(*logits.shape[:2], side, factor, side, factor)
        middle = slice(factor // 2 - 1, factor // 2 + 1)
        logits = cells[:, :, :, middle][..., middle].mean((3, 5))
    mask = (logits >= 0).astype(np.float64)
    return mask / np.maximum(mask.sum((-2, -1), keepdims=True), 1)


@pytest.mark.parametrize("source", ["pixel", "clip", "both"])
@pytest.mark.parametrize("mode", ["dense", "pooled"])
def test_both_modes_equal_their_formulas_with_the_same_parameters(source, mode):
    config = config_of(source, mode)
    variables, maps, mask_logits = random_case(config)
    adapter = FeatureAdapter(config)
    expected, pooled = 0.0, {}
    for name, params in variables["params"].items():
        weights = literal_weights(mask_logits, SIDES[name])
        x = np.asarray(maps[name], np.float64)
        if mode == "dense":
            u = np.einsum("bnhw,bhwr->bnr", weights, literal_down(params, x))
        else:
            vector = np.einsum("bnhw,bhwc->bnc", weights, x)
            pooled[name] = jnp.asarray(vector, jnp.float32)
            u = literal_down(params, vector)
        expected = expected + 0.5 * u @ np.asarray(params["b"], np.float64)
    if mode == "dense":
        delta = adapter.apply(variables, maps, mask_logits, "binary", method="from_maps")
    else:
        delta = adapter.apply(variables, pooled, method="from_pooled")
    assert np.isfinite(delta).all()
    np.testing.assert_allclose(delta, expected, rtol=0, atol=2e-5)


def test_a_mask_without_pixels_gets_no_update_from_maps():
    config = config_of("both", "dense")
    variables, maps, mask_logits = random_case(config)
    delta = FeatureAdapter(config).apply(variables, maps, mask_logits, "binary", method="from_maps")
    np.testing.assert_array_equal(delta[0, 0], 0)
    assert np.abs(delta[0, 1]).max() > 0.1


def test_gradient_reaches_a_only_after_b_has_moved():
    config = config_of("clip", "pooled")
    variables, _, _ = random_case(config)
    rng = np.random.default_rng(1)
    pooled = {
        name: jnp.asarray(rng.standard_normal((5, source_widths(config)[name])), jnp.float32)
        for name in source_names(config.adapter)
    }

    @jax.jit
    def grad(params):
        def loss(params):
            delta = FeatureAdapter(config).apply({"params": params}, pooled, method="from_pooled")
            return jnp.sum((delta - 1) ** 2)

        return jax.grad(loss)(params)

    start = {name: {**p, "b": jnp.zeros_like(p["b"])} for name, p in variables["params"].items()}
    at_start = grad(start)
    moved = jax.tree.map(lambda x, g: x - 0.01 * g, start, at_start)
    afterwards = grad(moved)
    for name in source_names(config.adapter):
        np.testing.assert_array_equal(at_start[name]["a"], 0)
        assert np.abs(at_start[name]["b"]).max() > 0
        assert np.abs(afterwards[name]["a"]).max() > 0


def test_initial_values_are_loras():
    config = dataclasses.replace(
        TEST, adapter=dataclasses.replace(TEST.adapter, rank=64, source="clip")
    )
    pooled = {name: jnp.zeros((1, w)) for name, w in source_widths(config).items()}
    params = FeatureAdapter(config).init(jax.random.key(0), pooled, method="from_pooled")["params"]
    assert set(params) == {"res2", "res3", "res4", "res5"}
    for name, p in params.items():
        bound = 1 / math.sqrt(source_widths(config)[name])
        assert 0.9 * bound < np.abs(p["a"]).max() <= bound
        np.testing.assert_array_equal(p["b"], 0)


def test_a_model_without_an_adapter_says_so():
    config = dataclasses.replace(TEST, adapter=None)
    with pytest.raises(ValueError, match="no adapter"):
        FeatureAdapter(config).init(jax.random.key(0), {}, method="from_pooled")


def test_head_is_applied_to_the_updated_vector_as_to_any_pooled_vector():
    # The adapter relies on CLIP's head taking vectors of any leading shape alike.
    clip = CLIP(TEST.clip)
    z = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 128)), jnp.float32)
    variables = clip.init(jax.random.key(0), z, method="project")
    together = clip.apply(variables, z, method="project")
    single = clip.apply(variables, z[1, 2], method="project")
    np.testing.assert_allclose(together[1, 2], single, atol=1e-6)
