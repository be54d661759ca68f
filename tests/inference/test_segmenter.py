import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.inference.segmenter import OpenVocabularySegmenter, SegmenterConfig
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig, letterbox
from uniovseg_jax.weights.store import Pretrained

# Random weights have no idea of quality, so nothing may be filtered by it.
CONFIG = SegmenterConfig(
    proposals=ProposalConfig(points_per_side=4, score_threshold=0.0),
    object_threshold=0.0,
    overlap_threshold=0.0,
    templates="single",
)
WORDS = ["grass", "red ball|red sphere", "house"]


@pytest.fixture(scope="module")
def compiled(pretrained):
    return OpenVocabularySegmenter(pretrained, CONFIG)


@pytest.fixture
def segmenter(compiled):
    compiled.set_vocabulary(WORDS, stuff=["grass"])
    return compiled


@pytest.fixture(scope="module")
def proposals(compiled, image):
    return compiled.propose(image)


def test_proposals_come_with_unit_embeddings(proposals, image):
    assert len(proposals.masks) > 0 and proposals.masks.image_hw == image.shape[:2]
    np.testing.assert_allclose(np.linalg.norm(proposals.embeddings, axis=1), 1, atol=1e-5)


def test_embeddings_are_the_adapted_ones(segmenter, pretrained, proposals, image):
    boxed, _ = letterbox(image, 64)
    model, logits = pretrained.model, jnp.asarray(proposals.masks.mask_logits)[None]
    features = segmenter._proposer.encode(pretrained.variables, boxed[None])
    expected = model.apply(pretrained.variables, features, logits, True, method="embed_regions")
    np.testing.assert_allclose(proposals.embeddings, expected[0], atol=1e-4)


def test_a_model_without_an_adapter_uses_plain_embeddings(pretrained, image, proposals):
    config = dataclasses.replace(pretrained.config, adapter=None)
    params = {k: v for k, v in pretrained.variables["params"].items() if k != "adapter"}
    variables = pretrained.variables | {"params": params}
    plain = Pretrained(
        UniOVSeg(config), config, variables, pretrained.tokenizer, ("clip", "masks"), {}
    )
    found = OpenVocabularySegmenter(plain, CONFIG).propose(image)
    # A fresh adapter adds nothing.
    np.testing.assert_allclose(found.embeddings, proposals.embeddings, atol=1e-4)


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_results_have_the_images_size_and_agree_with_their_run_lengths(segmenter, image, task):
    result = segmenter.segment(image, task)
    assert result.label_map.shape == image.shape[:2] and result.segments
    names = {word.split("|")[0] for word in WORDS}
    for segment in result.segments:
        mask = rle_decode(segment.rle)
        x, y, w, h = segment.bbox
        assert segment.name in names and segment.runner_up in names - {segment.name}
        assert mask.sum() == segment.area == mask[y : y + h, x : x + w].sum()
        assert 0 <= segment.score <= 1
        if task != "instance":
            np.testing.assert_array_equal(mask, result.label_map == segment.id)
        else:
            assert segment.is_thing


def test_scores_are_the_softmax_of_scaled_best_cosines(segmenter, pretrained, proposals):
    result = segmenter.segment_proposals(proposals, "panoptic")
    names = segmenter._text_encoder.embed(["grass", "red ball", "red sphere", "house"])
    cosines = proposals.embeddings @ names.T
    per_class = np.stack([cosines[:, 0], cosines[:, 1:3].max(1), cosines[:, 3]], 1)
    scale = np.exp(np.float64(pretrained.variables["params"]["clip"]["logit_scale"]))
    probs = np.exp(min(scale, 100) * per_class)
    probs /= probs.sum(1, keepdims=True)
    for segment in result.segments:
        column = [word.split("|")[0] for word in WORDS].index(segment.name)
        assert np.isclose(probs[:, column], segment.score, atol=1e-4).any()


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_a_region_unlike_every_name_is_void(segmenter, proposals, task):
    segmenter.set_vocabulary(WORDS, min_cosine=1.01)
    result = segmenter.segment_proposals(proposals, task)
    assert not result.segments and not result.label_map.any()


@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_no_mask_at_all_gives_an_empty_result(segmenter, image, task):
    nothing = segmenter.embed_masks(image, np.zeros((0, *image.shape[:2]), bool))
    result = segmenter.segment_proposals(nothing, task)
    assert not result.segments and not result.label_map.any()


def test_panoptic_results_keep_only_masks_of_sufficient_quality(segmenter, proposals):
    poor = dataclasses.replace(proposals, scores=np.full_like(proposals.scores, -1.0))
    assert not segmenter.segment_proposals(poor, "panoptic").segments
    assert segmenter.segment_proposals(poor, "semantic").segments


def test_given_masks_are_returned_at_their_own_size(segmenter, image):
    masks = np.zeros((2, *image.shape[:2]), bool)
    masks[0, :, :50] = masks[1, 20:40, 60:100] = True
    result = segmenter.segment_proposals(segmenter.embed_masks(image, masks), "panoptic")
    np.testing.assert_array_equal(result.label_map > 0, masks.any(0))


def test_new_images_and_vocabularies_compile_nothing_anew(segmenter, image):
    segmenter.segment(image)
    events = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: events.append(event) if "backend_compile" in event else None
    )
    segmenter.set_vocabulary(["sand", "cube", "tree|bush"])
    segmenter.segment(image[:, ::-1].copy())
    assert not events


def test_missing_vocabularies_and_parts_are_refused(pretrained, image):
    with pytest.raises(ValueError, match="call set_vocabulary first"):
        OpenVocabularySegmenter(pretrained, CONFIG).segment(image)
    clip = Pretrained(pretrained.model, pretrained.config, {}, None, ("clip",), {})
    with pytest.raises(ValueError, match="parts clip and masks; this one has clip"):
        OpenVocabularySegmenter(clip)


def test_a_mask_too_small_to_be_seen_is_no_likelier_one_class_than_another(pretrained, image):
    config = dataclasses.replace(pretrained.config, pooling="binary")
    model = dataclasses.replace(pretrained, config=config, model=UniOVSeg(config))
    segmenter = OpenVocabularySegmenter(model, CONFIG)
    segmenter.set_vocabulary(WORDS)
    masks = np.zeros((3, *image.shape[:2]), bool)
    masks[0] = True
    masks[1, 1, 1] = True
    named = segmenter.name(segmenter.embed_masks(image, masks), "instance")
    assert named.probs[0].max() > 0.34
    np.testing.assert_allclose(named.probs[1:], 1 / 3, atol=1e-6)
    # What is like no name is void where a least cosine is asked for.
    segmenter.set_vocabulary(WORDS, min_cosine=1e-6)
    assert len(segmenter.name(segmenter.embed_masks(image, masks), "instance").probs) <= 1
