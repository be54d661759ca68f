import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from convert import random_weights, reference_masks
from uniovseg_jax.models import presets
from uniovseg_jax.models.mask_decoder import compute_masks
from uniovseg_jax.models.prompt_encoder import points_to_boxes
from uniovseg_jax.models.uniovseg import ImageFeatures, UniOVSeg, abstract_variables, init_variables

TEST = presets.get_preset("test")
DENSE = dataclasses.replace(
    TEST, adapter=dataclasses.replace(TEST.adapter, mode="dense", source="both"), pooling="binary"
)
ALL = ("clip", "masks", "adapter")


def random_variables(config, parts=ALL):
    flat = random_weights.random_variables(abstract_variables(config, parts), seed=0)
    return traverse_util.unflatten_dict(jax.tree.map(jnp.asarray, flat), sep="/")


def count(tree):
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(tree))


@pytest.fixture(scope="module")
def scene():
    """Model, variables, an image, its features and some masks."""
    model, variables = UniOVSeg(DENSE), random_variables(DENSE)
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.integers(0, 256, (1, 64, 64, 3)), jnp.uint8)
    features = jax.jit(lambda v, x: model.apply(v, x, method="encode_image"))(variables, image)
    mask_logits = jnp.asarray(rng.standard_normal((1, 4, 16, 16)), jnp.float32)
    return model, variables, image, features, mask_logits.at[0, 3].set(-1.0)


def test_published_parameter_counts_of_the_large_model():
    tree = abstract_variables(presets.get_preset("released"), ALL)
    params = tree["params"]
    assert count(params["clip"]["visual"]) + count(params["clip"]["head"]) == 199_770_816
    assert count(params["clip"]["text"]) + count(params["clip"]["logit_scale"]) == 152_001_793
    assert count(params["pixel_decoder"]) == 5_790_144
    assert count(params["prompt_encoder"]) + count(params["mask_decoder"]) == 16_188_421
    assert count(params["adapter"]) == 59_392
    assert count(tree["fixed"]) == 256 + 512
    six = dataclasses.replace(presets.get_preset("released"), decoder_layers=6)
    masks = abstract_variables(six, ("masks",))["params"]
    assert count(masks) == 17_242_309


def test_every_preset_has_variables_under_the_names_of_its_parts():
    for name in presets.PRESETS:
        tree = abstract_variables(presets.get_preset(name), ALL)
        assert set(tree["params"]) == {
            "clip", "pixel_decoder", "prompt_encoder", "mask_decoder", "adapter"
        }  # fmt: skip
        assert {x.dtype for x in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    assert abstract_variables(presets.get_preset("paper"), ALL)["fixed"] == {}


def test_a_parts_values_do_not_depend_on_the_other_parts():
    key = jax.random.key(3)
    alone = init_variables(TEST, key, ("adapter",))
    assert set(alone["params"]) == {"adapter"} and alone["fixed"] == {}
    again = init_variables(TEST, key, ("adapter", "adapter"))
    jax.tree.map(np.testing.assert_array_equal, alone, again)
    other = init_variables(TEST, jax.random.key(4), ("adapter",))
    a, b = (v["params"]["adapter"]["res2"]["a"] for v in (alone, other))
    assert np.abs(a - b).max() > 0


def test_unknown_parts_and_an_absent_adapter_are_refused():
    # TypeError where the tests' type checks see it first.
    with pytest.raises((ValueError, TypeError), match="mask"):
        init_variables(TEST, jax.random.key(0), ("mask",))
    with pytest.raises(ValueError, match="no adapter"):
        abstract_variables(dataclasses.replace(TEST, adapter=None), ("adapter",))


def test_all_of_an_image_as_mask_gives_clips_image_embedding(scene):
    model, variables, image, features, _ = scene
    everything = jnp.ones((1, 1, 16, 16))
    region = model.apply(variables, features, everything, False, method="embed_regions")
    expected = model.apply(variables, image, method=lambda m, x: m.clip.encode_image(x))
    np.testing.assert_allclose(region[:, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [TEST, DENSE], ids=["pooled", "dense"])
def test_an_untrained_adapter_changes_nothing_at_all(scene, config):
    _, variables, _, features, mask_logits = scene
    adapter = init_variables(config, jax.random.key(0), ("adapter",))["params"]["adapter"]
    variables = {**variables, "params": {**variables["params"], "adapter": adapter}}
    model = UniOVSeg(config)
    plain = model.apply(variables, features, mask_logits, False, method="embed_regions")
    adapted = model.apply(variables, features, mask_logits, True, method="embed_regions")
    np.testing.assert_array_equal(adapted, plain)
    np.testing.assert_allclose(np.linalg.norm(plain, axis=-1), 1, atol=1e-6)


def test_a_trained_adapter_changes_embeddings_and_empty_masks_stay_finite(scene):
    model, variables, _, features, mask_logits = scene
    plain = model.apply(variables, features, mask_logits, False, method="embed_regions")
    adapted = model.apply(variables, features, mask_logits, True, method="embed_regions")
    assert np.isfinite(adapted).all() and np.isfinite(plain).all()
    assert np.abs(adapted[0, 0] - plain[0, 0]).max() > 0.01
    # No pixel, no update: the fourth mask is empty.
    np.testing.assert_allclose(adapted[0, 3], plain[0, 3], atol=1e-6)


def test_stored_vectors_give_the_same_embeddings_as_the_maps(scene):
    _, variables, _, features, mask_logits = scene
    model = UniOVSeg(TEST)
    params = {**variables["params"], **random_variables(TEST, ("adapter",))["params"]}
    variables = {**variables, "params": params}
    pooled = model.apply(variables, features, mask_logits, method="pool_regions")
    assert set(pooled) == {"clip", "res2", "res3", "res4", "res5"}
    stored = jax.tree.map(lambda x: x[0, :2], pooled)
    from_stored = model.apply(variables, stored, True, method="embed_pooled")
    direct = model.apply(variables, features, mask_logits, True, method="embed_regions")
    np.testing.assert_allclose(from_stored, direct[0, :2], atol=1e-6)


def test_another_scale_of_the_image_needs_only_clips_maps(scene):
    model, variables, image, features, mask_logits = scene
    larger = jnp.repeat(jnp.repeat(image, 2, 1), 2, 2)[:, :96, :96]
    trunk = jax.jit(lambda v, x: model.apply(v, x, method="encode_trunk"))(variables, larger)
    region = model.apply(variables, trunk, mask_logits, False, method="embed_regions")
    assert region.shape == (1, 4, TEST.clip.embed_dim) and np.isfinite(region).all()
    with pytest.raises(ValueError, match="p32, p16, p8, p4"):
        model.apply(variables, trunk, mask_logits, True, method="embed_regions")


def test_a_dense_adapter_refuses_stored_vectors(scene):
    model, variables, *_ = scene
    with pytest.raises(ValueError, match="embed_regions"):
        model.apply(variables, {"clip": jnp.zeros((1, 128))}, True, method="embed_pooled")


def test_prompts_scale_with_the_image_given_not_with_the_presets_size(scene):
    # The same relative point on inputs of two sizes has the same location code and content.
    model, variables, _, _, _ = scene
    trunk = {
        f"res{i}": jnp.ones((1, 2 ** (5 - i) * 2, 2 ** (5 - i) * 3, w))
        for i, w in zip(range(2, 6), TEST.clip.widths, strict=True)
    }

    def decode(module, trunk, boxes):
        features = ImageFeatures(trunk, module.decode_pixels(trunk))
        memory = module.prepare_masks(features)
        output = module.decode_masks(features, memory, boxes, "point")
        return compute_masks(output.mask_embeds[-1], memory.pixel_embeds), output

    boxes = points_to_boxes(jnp.array([[[90.0, 10.0], [40.0, 60.0]]]))
    masks, output = jax.jit(lambda v, *args: model.apply(v, *args, method=decode))(
        variables, trunk, boxes
    )
    assert masks.shape == (1, 2, 4, 16, 24) and masks.dtype == jnp.float32
    assert len(output.mask_embeds) == len(output.pred_ious) == TEST.decoder_layers + 1
    # Checked against the literal computation, which takes the size as an argument.
    flat = traverse_util.flatten_dict(variables, sep="/")
    host_trunk = {n: np.asarray(x, np.float64) for n, x in trunk.items()}
    mask_features, maps, _ = reference_masks.pixel_decoder(flat, DENSE, host_trunk)
    tokens = reference_masks.prompt_tokens(
        flat, DENSE, mask_features, np.asarray(boxes, np.float64), (64, 96), "point"
    )
    expected, ious, _ = reference_masks.mask_decoder(
        flat, DENSE, mask_features, maps, tokens, "point"
    )
    np.testing.assert_allclose(masks, expected[-1], rtol=0, atol=5e-4)
    np.testing.assert_allclose(output.pred_ious[-1], ious[-1], rtol=0, atol=5e-5)


def test_half_precision_keeps_logits_and_embeddings_in_float32(scene):
    _, variables, image, _, mask_logits = scene
    model = UniOVSeg(TEST, jnp.bfloat16)

    def run(module, image, mask_logits):
        features = module.encode_image(image)
        memory = module.prepare_masks(features)
        output = module.decode_masks(features, memory, jnp.ones((1, 1, 4)), "box")
        masks = compute_masks(output.mask_embeds[-1], memory.pixel_embeds)
        regions = module.embed_regions(features, mask_logits, False)
        return masks, output.pred_ious[-1], regions, features.pixel.mask_features, features.trunk

    masks, ious, regions, mask_features, trunk = jax.eval_shape(
        lambda v: model.apply(v, image, mask_logits, method=run), variables
    )
    for x in (masks, ious, regions, mask_features):
        assert x.dtype == jnp.float32
    assert trunk["res5"].dtype == jnp.bfloat16
