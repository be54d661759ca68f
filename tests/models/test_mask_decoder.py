import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convert import reference_masks
from convert.random_weights import random_variables
from uniovseg_jax.models import presets
from uniovseg_jax.models.mask_decoder import (
    MaskDecoder,
    compute_attention_mask,
    compute_masks,
    mean_foreground,
)
from uniovseg_jax.models.pixel_decoder import PixelFeatures
from uniovseg_jax.ops.resize import resize_bilinear, resize_maps

TEST = presets.get_preset("test")
# More layers than levels, so that the cycle of levels is walked round.
RELEASED_LIKE = dataclasses.replace(TEST, decoder_layers=4)
PAPER_LIKE = dataclasses.replace(TEST, position_encoding="sine", quality_head=False)
NUM_PROMPTS = 6


# One program per configuration, prompt type and number of prompts, shared by all tests.
@functools.partial(jax.jit, static_argnums=(0, 4))
def decode(module, variables, features, tokens, prompt_type):
    def run(decoder):
        memory = decoder.prepare(features)
        output = decoder.decode(memory, tokens, prompt_type)
        masks = [compute_masks(e, memory.pixel_embeds) for e in output.mask_embeds]
        return masks, output.pred_ious

    return module.apply(variables, method=run)


def make_case(config, shift=0.0):
    """Random features, tokens and variables; `shift` moves all mask logits down."""
    rng = np.random.default_rng(3)

    def draw(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    levels = tuple(draw(2, h, w, config.dim) for h, w in ((2, 3), (4, 6), (8, 12)))
    y = draw(2, 16, 24, config.dim)
    features = PixelFeatures(y, levels, y)
    tokens = draw(2, NUM_PROMPTS, 7, config.dim)
    module = MaskDecoder(config)

    def touch(decoder):
        memory = decoder.prepare(features)
        for prompt_type in ("point", "box"):
            decoder.decode(memory, tokens, prompt_type)

    shapes = jax.eval_shape(lambda key: module.init(key, method=touch), jax.random.key(0))
    shapes = {kind: {"mask_decoder": tree} for kind, tree in shapes.items()}
    flat = random_variables(shapes, seed=4)
    # A constant channel of the pixel embeddings against a constant entry of every mask embedding.
    flat["params/mask_decoder/feat_embed/kernel"][:, 0] = 0
    flat["params/mask_decoder/feat_embed/bias"][0] = -1
    for k in range(config.masks_per_point + 1):
        flat[f"params/mask_decoder/mask_embed_{k}/layers_2/kernel"][:, 0] = 0
        flat[f"params/mask_decoder/mask_embed_{k}/layers_2/bias"][0] = shift
    nested = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
    variables = {kind: tree["mask_decoder"] for kind, tree in nested.items()}
    return module, flat, variables, features, tokens


def run_literal(config, flat, features, tokens, prompt_type):
    mask_features = np.asarray(features.mask_features, np.float64)
    maps = [np.asarray(x, np.float64) for x in features.multi_scale_features]
    tokens = np.asarray(tokens, np.float64)
    return reference_masks.mask_decoder(flat, config, mask_features, maps, tokens, prompt_type)


# Float32 against float64 through the layers; logits are of order 10.
CLOSE = {"rtol": 0, "atol": 2e-4}


@pytest.mark.parametrize("prompt_type", ["point", "box"])
@pytest.mark.parametrize("config", [RELEASED_LIKE, PAPER_LIKE], ids=["released", "paper"])
def test_every_layer_equals_the_literal_float64_computation(config, prompt_type):
    module, flat, variables, features, tokens = make_case(config)
    masks, ious = decode(module, variables, features, tokens, prompt_type)
    expected_masks, expected_ious, _ = run_literal(config, flat, features, tokens, prompt_type)

    per_prompt = 4 if prompt_type == "point" else 1
    assert len(masks) == len(expected_masks) == config.decoder_layers + 1
    for ours, expected in zip(masks, expected_masks, strict=True):
        assert ours.shape == (2, NUM_PROMPTS, per_prompt, 16, 24)
        np.testing.assert_allclose(ours, expected, **CLOSE)
    if not config.quality_head:
        assert ious == ()
        return
    for ours, expected in zip(ious, expected_ious, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("prompt_type", "shift"), [("box", 3.0), ("point", 3.0), ("point", 1e3)])
def test_a_prompt_with_an_empty_attention_mask_attends_everywhere(prompt_type, shift):
    module, flat, variables, features, tokens = make_case(RELEASED_LIKE, shift)
    masks, _ = decode(module, variables, features, tokens, prompt_type)
    expected, _, attended = run_literal(RELEASED_LIKE, flat, features, tokens, prompt_type)
    empty_shares = [float((~layer.any(-1)).mean()) for layer in attended]
    # The case is worth something only if empty prompts, and normal ones beside them, occur.
    assert max(empty_shares) > 0
    assert min(empty_shares) < 1 or shift == 1e3
    for ours, literal_masks in zip(masks, expected, strict=True):
        np.testing.assert_allclose(ours, literal_masks, rtol=1e-5, atol=2e-4)


def test_order_and_chunks_of_prompts_change_nothing():
    module, _, variables, features, tokens = make_case(RELEASED_LIKE)
    masks, ious = decode(module, variables, features, tokens, "point")
    order = np.random.default_rng(0).permutation(NUM_PROMPTS)
    permuted, permuted_ious = decode(module, variables, features, tokens[:, order], "point")
    np.testing.assert_allclose(permuted[-1], masks[-1][:, order], rtol=0, atol=1e-5)
    np.testing.assert_allclose(permuted_ious[-1], ious[-1][:, order], rtol=0, atol=1e-6)
    chunks = [
        decode(module, variables, features, tokens[:, i : i + 2], "point")[0][-1]
        for i in range(0, NUM_PROMPTS, 2)
    ]
    np.testing.assert_allclose(np.concatenate(chunks, 1), masks[-1], rtol=0, atol=1e-5)


def test_one_prompts_tokens_do_not_reach_another_prompt():
    module, _, variables, features, tokens = make_case(RELEASED_LIKE)
    masks, _ = decode(module, variables, features, tokens, "point")
    changed, _ = decode(module, variables, features, tokens.at[:, 2].add(1.0), "point")
    others = np.arange(NUM_PROMPTS) != 2
    np.testing.assert_allclose(changed[-1][:, others], masks[-1][:, others], rtol=0, atol=1e-5)
    assert np.abs(changed[-1][:, 2] - masks[-1][:, 2]).max() > 0.1


def test_attention_mask_from_resized_features_equals_the_one_from_resized_logits():
    rng = np.random.default_rng(0)
    embeds = jnp.asarray(rng.standard_normal((1, 20, 4, 8)), jnp.float32)
    pixels = jnp.asarray(rng.standard_normal((1, 32, 48, 8)), jnp.float32)
    for hw in ((4, 6), (8, 12), (16, 24)):
        ours = compute_attention_mask(embeds, resize_bilinear(pixels, hw))
        logits = resize_maps(compute_masks(embeds, pixels), hw)
        expected = (logits >= 0).any(2).reshape(1, 20, -1)
        np.testing.assert_array_equal(ours, expected)
        assert 0 < expected.mean() < 1


def test_no_gradient_flows_through_the_attention_mask_and_all_gradients_are_finite():
    module, _, variables, features, tokens = make_case(
        dataclasses.replace(TEST, decoder_layers=1), shift=3.0
    )

    def loss(params):
        def run(decoder):
            memory = decoder.prepare(features)
            output = decoder.decode(memory, tokens, "box")
            return sum(jnp.sum(jnp.square(e)) for e in output.mask_embeds)

        return module.apply({**variables, "params": params}, method=run)

    grads = jax.jit(jax.grad(loss))(variables["params"])
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    # Only the attention masks see the pixel embeddings here, so nothing may reach them.
    np.testing.assert_array_equal(grads["feat_embed"]["kernel"], 0)
    assert np.abs(grads["cross_attn_0"]["key"]["kernel"]).max() > 0


def test_attention_starts_within_the_bound_of_the_fused_matrix():
    config = dataclasses.replace(TEST, dim=32, decoder_layers=0)
    levels = tuple(jnp.zeros((1, 1, 1, 32)) for _ in range(3))
    features = PixelFeatures(jnp.zeros((1, 4, 4, 32)), levels, jnp.zeros((1, 4, 4, 32)))

    def touch(decoder):
        decoder.decode(decoder.prepare(features), jnp.zeros((1, 1, 7, 32)), "box")

    params = jax.jit(lambda key: MaskDecoder(config).init(key, method=touch))(jax.random.key(0))
    layer = params["params"]["extra_self_attn"]
    for name in ("query", "key", "value"):
        top = np.abs(layer[name]["kernel"]).max()
        assert 0.9 * np.sqrt(6 / 128) < top <= np.sqrt(6 / 128)
        np.testing.assert_array_equal(layer[name]["bias"], 0)
    assert np.abs(layer["out"]["kernel"]).max() > np.sqrt(6 / 128)


def test_the_mean_foreground_probability_of_an_empty_mask_is_0():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    logits[0, 1] = -1.0
    found = mean_foreground(jnp.asarray(logits))
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = [[x[x >= 0.5].mean() if (x >= 0.5).any() else 0 for x in row] for row in p]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[0, 1] == 0
