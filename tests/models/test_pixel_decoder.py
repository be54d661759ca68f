import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convert import reference_masks
from convert.random_weights import random_variables
from uniovseg_jax.models import presets
from uniovseg_jax.models.pixel_decoder import PixelDecoder

TEST = presets.get_preset("test")
PAPER_LIKE = dataclasses.replace(
    TEST, position_encoding="sine", input_norm="gn", fpn="top_down", encoder_layers=2
)
# Two images of 64 x 96 pixels: a swap of x and y, or of two images, cannot go unseen.
HW = {"res2": (16, 24), "res3": (8, 12), "res4": (4, 6), "res5": (2, 3)}


def random_trunk(seed):
    rng = np.random.default_rng(seed)
    widths = dict(zip(HW, TEST.clip.widths, strict=True))
    return {n: rng.standard_normal((2, *hw, widths[n])).astype(np.float32) for n, hw in HW.items()}


def own_variables(config, trunk, seed):
    module = PixelDecoder(config)
    shapes = jax.eval_shape(module.init, jax.random.key(0), trunk)
    shapes = {kind: {"pixel_decoder": tree} for kind, tree in shapes.items()}
    flat = random_variables(shapes, seed)
    nested = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
    return flat, {kind: tree["pixel_decoder"] for kind, tree in nested.items()}


@pytest.mark.parametrize("config", [TEST, PAPER_LIKE], ids=["released", "paper"])
def test_every_map_equals_the_literal_float64_computation(config):
    trunk = jax.tree.map(jnp.asarray, random_trunk(0))
    flat, variables = own_variables(config, trunk, seed=1)
    out = jax.jit(PixelDecoder(config).apply)(variables, trunk)

    trunk = {name: np.asarray(x, np.float64) for name, x in trunk.items()}
    mask_features, maps, fpn = reference_masks.pixel_decoder(flat, config, trunk)
    # Float32 against float64 through two transformer layers.
    close = {"rtol": 0, "atol": 2e-5}
    np.testing.assert_allclose(out.mask_features, mask_features, **close)
    np.testing.assert_allclose(out.fpn_features, fpn, **close)
    assert len(out.multi_scale_features) == len(maps) == 3
    for ours, expected in zip(out.multi_scale_features, maps, strict=True):
        np.testing.assert_allclose(ours, expected, **close)


def test_half_precision_features_are_decoded_in_float32():
    trunk = {n: jnp.asarray(x, jnp.bfloat16) for n, x in random_trunk(0).items()}
    shapes = jax.eval_shape(PixelDecoder(TEST).init_with_output, jax.random.key(0), trunk)
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_the_released_pyramid_has_one_step_and_the_papers_has_three():
    trunk = jax.tree.map(jnp.asarray, random_trunk(0))
    for config, expected in ((TEST, {"res2"}), (PAPER_LIKE, {"res2", "res3", "res4"})):
        params = jax.eval_shape(PixelDecoder(config).init, jax.random.key(0), trunk)["params"]
        found = {name.removeprefix("output_") for name in params if name.startswith("output_res")}
        assert found == expected
        assert params["output_res2"]["kernel"].shape == (3, 3, config.dim, config.dim)


def test_fourier_matrices_are_no_parameters_and_sine_has_none():
    trunk = jax.tree.map(jnp.asarray, random_trunk(0))
    released = jax.eval_shape(PixelDecoder(TEST).init, jax.random.key(0), trunk)
    assert released["fixed"]["position_encoding"]["fourier_matrix"].shape == (2, TEST.dim // 2)
    assert "position_encoding" not in released["params"]
    assert "fixed" not in jax.eval_shape(PixelDecoder(PAPER_LIKE).init, jax.random.key(0), trunk)
