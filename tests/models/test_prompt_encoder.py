import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convert import reference_masks
from convert.random_weights import random_variables
from uniovseg_jax.models import presets
from uniovseg_jax.models.prompt_encoder import PromptEncoder, points_to_boxes

TEST = presets.get_preset("test")
PAPER_LIKE = dataclasses.replace(TEST, position_encoding="sine", embed_all_tokens=True)
IMAGE_HW = (64, 96)
# Inside, across the left border, and one whose centre lies outside the image.
BOXES = np.array(
    [
        [[10, 20, 40, 50], [-2, 10, 2, 14], [94, 62, 101, 70]],
        [[5, 5, 9, 9], [0, 0, 96, 64], [30, 2, 34, 6]],
    ],
    np.float32,
)


def encode(config, prompt_type, boxes=BOXES, seed=0):
    features = np.random.default_rng(seed).standard_normal((2, 16, 24, config.dim))
    features = jnp.asarray(features, jnp.float32)
    module = PromptEncoder(config)

    def init(key):
        return module.init(key, features, jnp.asarray(boxes), IMAGE_HW, prompt_type)

    shapes = {k: {"prompt_encoder": v} for k, v in jax.eval_shape(init, jax.random.key(0)).items()}
    flat = random_variables(shapes, seed=2)
    nested = traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")
    variables = {kind: tree["prompt_encoder"] for kind, tree in nested.items()}
    tokens = module.apply(variables, features, jnp.asarray(boxes), IMAGE_HW, prompt_type)
    return np.asarray(tokens), flat, np.asarray(features, np.float64)


@pytest.mark.parametrize("prompt_type", ["point", "box"])
@pytest.mark.parametrize("config", [TEST, PAPER_LIKE], ids=["released", "paper"])
def test_tokens_equal_the_literal_float64_computation(config, prompt_type):
    tokens, flat, features = encode(config, prompt_type)
    assert tokens.shape == (2, 3, 7, config.dim)
    expected = reference_masks.prompt_tokens(
        flat, config, features, BOXES.astype(np.float64), IMAGE_HW, prompt_type
    )
    np.testing.assert_allclose(tokens, expected, rtol=0, atol=2e-5)


def test_mask_tokens_are_the_same_for_every_prompt_unless_the_preset_embeds_them():
    released, flat, _ = encode(TEST, "point")
    table = flat["params/prompt_encoder/mask_embed"]
    np.testing.assert_array_equal(released[:, :, 2:], np.broadcast_to(table, (2, 3, 5, TEST.dim)))
    paper, _, _ = encode(PAPER_LIKE, "point")
    assert np.abs(paper[0, 0, 2:] - paper[0, 1, 2:]).max() > 0.1


def test_points_and_boxes_at_the_same_place_differ_by_type_and_click():
    point, flat, _ = encode(TEST, "point")
    box, _, _ = encode(TEST, "box")
    table = {n: flat[f"params/prompt_encoder/{n}_embed"] for n in ("point", "box", "click")}
    difference = table["point"] + table["click"][1] - table["box"]
    np.testing.assert_allclose(
        point[:, :, :2] - box[:, :, :2],
        np.broadcast_to(difference, (2, 3, 2, TEST.dim)),
        atol=1e-5,
    )


def test_a_point_becomes_a_box_around_it_that_may_leave_the_image():
    boxes = points_to_boxes(jnp.array([[15.875, 12.5], [0.0, 1.0]]))
    np.testing.assert_array_equal(boxes, [[13.875, 10.5, 17.875, 14.5], [-2, -1, 2, 3]])


def test_an_unknown_prompt_type_is_refused():
    # TypeError where the tests' type checks see it first.
    with pytest.raises((ValueError, TypeError), match="'points'"):
        encode(TEST, "points")
