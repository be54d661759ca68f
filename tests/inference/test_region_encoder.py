"""Regions seen once, at other sizes, and in the mirror."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.inference.framing import ShortSide
from uniovseg_jax.inference.region_encoder import RegionEncoder
from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig


@pytest.fixture(scope="module")
def inputs(pretrained):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    masks = np.where(np.cumsum(rng.normal(size=(3, 16, 24)), axis=1) > 0, 4.0, -4.0)
    encode = jax.jit(
        lambda pixels: pretrained.model.apply(
            pretrained.variables, pixels, method=UniOVSeg.encode_image
        )
    )
    return pixels, encode(pixels), masks.astype(np.float32)


@pytest.fixture(scope="module")
def by_hand(pretrained):
    """Encodes pixels and embeds masks in two plain calls."""

    @jax.jit
    def embed(pixels, masks):
        model, variables = pretrained.model, pretrained.variables
        features = model.apply(variables, pixels, method="encode_image")
        return model.apply(variables, features, masks[None], True, method="embed_regions")[0]

    return lambda pixels, masks: np.asarray(embed(jnp.asarray(pixels), jnp.asarray(masks)))


def test_one_view_gives_unit_vectors_of_the_input_itself(pretrained, inputs, by_hand):
    found = RegionEncoder(pretrained)(pretrained.variables, *inputs)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, by_hand(inputs[0], inputs[2]), atol=1e-4)


def test_several_views_are_averaged(pretrained, inputs, by_hand):
    pixels, _, masks = inputs
    found = RegionEncoder(pretrained, (1.0, 1.4), flip=True)(pretrained.variables, *inputs)
    large = jax.image.resize(pixels.astype(jnp.float32), (1, 96, 128, 3), "linear")
    views = [
        by_hand(pixels, masks),
        by_hand(pixels[:, :, ::-1], masks[..., ::-1]),
        by_hand(large, masks),
        by_hand(large[:, :, ::-1], masks[..., ::-1]),
    ]
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-4)


@pytest.mark.parametrize("scales", [(), (1.0, 0.0)])
def test_scales_must_be_positive(pretrained, scales):
    with pytest.raises(ValueError, match="positive scales"):
        RegionEncoder(pretrained, scales)


def test_other_sides_go_through_the_segmenter_whole(pretrained):
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (50, 90, 3), dtype=np.uint8)
    config = SegmenterConfig(
        proposals=ProposalConfig(points_per_side=3, score_threshold=0.0),
        framing=ShortSide(40, 80, 32, (122.8, 116.7, 104.1)),
        object_threshold=0.0,
        overlap_threshold=0.0,
        templates="single",
        contained=0.9,
    )
    segmenter = OpenVocabularySegmenter(pretrained, config)
    segmenter.set_vocabulary("grass,ball", stuff="grass")
    proposals = segmenter.propose(image)
    assert proposals.masks.input_hw == (64, 96) and proposals.masks.content_hw == (40, 72)
    assert segmenter.segment_proposals(proposals, "panoptic").label_map.shape == (50, 90)
    kept = segmenter.name(proposals, "panoptic")
    assert 0 < len(kept.masks) <= len(proposals.masks)
