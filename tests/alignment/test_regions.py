import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_regions import make_caption

from uniovseg_jax.alignment.regions import (
    AlignmentConfig,
    RegionGenerator,
    box_image,
    make_region_costs,
)
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig, make_proposer
from uniovseg_jax.text_encoder import TextEncoder

NAMES = ["grass", "red ball", "blue house"]
# A random quality head says about one half everywhere.
PROPOSALS = ProposalConfig(points_per_side=3, score_threshold=0.0)


def _images(count, side=64):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


def _costs(pretrained, kind, entities, valid):
    rng = np.random.default_rng(1)
    masks = rng.normal(size=(2, 5, 16, 16)).astype(np.float32)
    compute = make_region_costs(pretrained.model, kind)
    images = np.stack(_images(2))
    features = make_proposer(pretrained.model, PROPOSALS).encode(pretrained.variables, images)
    costs, pooled = compute(pretrained.variables, features, images, masks, entities, valid)
    return images, masks, np.asarray(costs), jax.tree.map(np.asarray, pooled)


def test_costs_are_reverse_cosines_of_each_scales_region_embeddings(pretrained):
    rng = np.random.default_rng(2)
    entities = rng.normal(size=(2, 4, 32)).astype(np.float32)
    entities /= np.linalg.norm(entities, axis=-1, keepdims=True)
    valid = np.ones((2, 4), bool)
    images, masks, costs, pooled = _costs(pretrained, "cosine", entities, valid)
    assert pretrained.config.align_scales == (64, 96)
    assert costs.shape == (2, 2, 5, 4)
    assert set(pooled) == {"clip", "res2", "res3", "res4", "res5"}
    for scale, side in enumerate(pretrained.config.align_scales):
        shape = (2, side, side, 3)
        resized = jax.image.resize(jnp.asarray(images, jnp.float32), shape, "linear")
        trunk = pretrained.model.apply(pretrained.variables, resized, method=UniOVSeg.encode_trunk)
        regions = pretrained.model.apply(
            pretrained.variables, trunk, jnp.asarray(masks), False, method=UniOVSeg.embed_regions
        )
        expected = 1 - np.einsum("bnd,bed->bne", np.asarray(regions), entities)
        np.testing.assert_allclose(costs[:, scale], expected, atol=1e-5)


def test_probability_costs_ignore_padded_entities(pretrained):
    entities = np.zeros((2, 4, 32), np.float32)
    entities[:, :3] = np.eye(3, 32)
    valid = np.array([[True, True, False, False], [True, True, True, False]])
    _, _, costs, _ = _costs(pretrained, "prob", entities, valid)
    # Over the valid entities of each image the probabilities sum to one.
    np.testing.assert_allclose((1 - costs[0, ..., :2]).sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose((1 - costs[1, ..., :3]).sum(axis=-1), 1, atol=1e-5)


def test_batches_and_padding_change_nothing(pretrained):
    texts = [NAMES[: i % 4] for i in range(5)]
    rows = [
        (make_caption(str(i), names), box_image(image, 64))
        for i, (names, image) in enumerate(zip(texts, _images(5, side=50), strict=True))
    ]
    encoder = TextEncoder(pretrained, "single")

    def generate(batch_size):
        config = AlignmentConfig(PROPOSALS, max_masks=12, max_entities=5, batch_size=batch_size)
        generator = RegionGenerator(pretrained, config, encoder)
        found = []
        for i in range(0, 5, batch_size):
            found += generator.start(rows[i : i + batch_size]).wait()
        return found

    for one, many, names in zip(generate(1), generate(3), texts, strict=True):
        masks = one.masks(np.array([0, 2]))
        assert len(one.scores) == len(many.scores) == one.costs.shape[1] > 2
        assert [rle_decode(mask).shape for mask in masks] == [(50, 50)] * 2
        full = one.masks(np.arange(len(one.scores)))
        assert masks == (full[0], full[2])
        assert one.costs.shape[2] == len(names)
        np.testing.assert_allclose(one.costs, many.costs, atol=1e-4)
        np.testing.assert_allclose(one.pooled["res3"], many.pooled["res3"], atol=1e-3)


@pytest.mark.parametrize("name", ["confident_share", "topk"])
@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_is_a_share(name, share):
    with pytest.raises(ValueError, match=f"{name} is .* expected a share above 0 and up to 1"):
        AlignmentConfig(**{name: share})


def test_a_least_cosine_needs_cosines():
    with pytest.raises(ValueError, match="expected cost 'cosine'"):
        AlignmentConfig(cost="prob", min_cosine=0.1)
    with pytest.raises(ValueError, match="expected cosine or prob"):
        AlignmentConfig(cost="l2")
