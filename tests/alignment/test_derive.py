"""Derived pairs are those that would have been found in the first place."""

import dataclasses

import numpy as np
import pytest
from made_regions import CaptionedList, keep_regions, make_caption

from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.captioned import SeveralCaptions
from uniovseg_jax.alignment.derive import derive_pairs, with_caption, with_embeddings, with_scales
from uniovseg_jax.alignment.regions import AlignmentConfig
from uniovseg_jax.models.uniovseg import UniOVSeg
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder

NAMES = ("grass", "red ball", "blue house")
CONFIG = AlignmentConfig(
    ProposalConfig(points_per_side=3, score_threshold=0.0),
    max_masks=6,
    templates="single",
    batch_size=2,
)
ALL = BuildOptions(keep="all", progress=False)


@pytest.fixture(scope="module")
def sources(pictures):
    """Two captions for each of four pictures."""

    def source(shift):
        captions = [make_caption(str(i), NAMES[(i + shift) % 3 :]) for i in range(4)]
        return CaptionedList(list(zip(captions, pictures, strict=False)))

    return source(0), source(1)


@pytest.fixture(scope="module")
def both(pretrained, sources, tmp_path_factory):
    folder = tmp_path_factory.mktemp("derive") / "both"
    return build_pairs(pretrained, SeveralCaptions(sources), CONFIG, folder, {}, ALL)


def assert_same_pairs(one, other):
    for a, b in zip(one.images(), other.images(), strict=True):
        assert a.regions.caption == b.regions.caption
        np.testing.assert_array_equal(a.pairs, b.pairs)
        np.testing.assert_allclose(a.regions.costs, b.regions.costs, atol=1e-5)
    targets, others = one.targets(), other.targets()
    assert [targets.names[i] for i in targets.entity] == [others.names[i] for i in others.entity]
    rows = np.arange(len(targets))
    found, expected = targets.examples(rows), others.examples(rows)
    np.testing.assert_allclose(found["text"], expected["text"], atol=1e-6)
    np.testing.assert_allclose(found["pooled"]["res4"], expected["pooled"]["res4"], atol=1e-4)


@pytest.mark.parametrize("which", [0, 1])
def test_a_caption_of_several_gives_its_own_pairs(pretrained, sources, both, tmp_path, which):
    config = dataclasses.replace(CONFIG, confident_share=0.5)
    expected = build_pairs(pretrained, sources[which], config, tmp_path / "own", {}, ALL)

    def change(image):
        return with_caption(image, sources[which][int(image.image_id)].caption)

    embed = TextEncoder(pretrained, "single").embed
    found = derive_pairs(both, tmp_path / "derived", {"which": which}, change, (64, 96), embed, 0.5)
    assert_same_pairs(found, expected)
    assert found.settings["which"] == which


def test_one_scale_of_several_gives_its_own_pairs(pretrained, sources, both, tmp_path):
    model = dataclasses.replace(pretrained.config, align_scales=(96,))
    single = dataclasses.replace(pretrained, config=model, model=UniOVSeg(model))
    images = SeveralCaptions(sources)
    expected = build_pairs(single, images, CONFIG, tmp_path / "own", {}, ALL)
    embed = TextEncoder(pretrained, "single").embed
    found = derive_pairs(
        both, tmp_path / "derived", {}, lambda image: with_scales(image, [1]), (96,), embed, 1.0
    )
    assert_same_pairs(found, expected)


def test_embeddings_of_the_frozen_model_give_the_costs_of_its_own_scale(pretrained, both):
    embed = TextEncoder(pretrained, "single").embed

    def embed_regions(pooled):
        return np.asarray(
            pretrained.model.apply(
                pretrained.variables,
                {key: np.asarray(values) for key, values in pooled.items()},
                False,
                method=lambda module, pooled, adapt: module.embed_pooled(
                    {key: jnp_array(values) for key, values in pooled.items()}, adapt
                ),
            )
        )

    for stored in both.images():
        image = stored.regions
        again = with_embeddings(image, embed_regions, embed)
        np.testing.assert_allclose(again.costs[0], image.costs[0], atol=1e-5)
        lean = keep_regions(image, [0])
        with pytest.raises(ValueError, match="of which 1 were kept"):
            with_embeddings(lean, embed_regions, embed)


def jnp_array(values):
    import jax.numpy as jnp

    return jnp.asarray(values)


def test_the_rules_of_the_store_are_kept(pretrained, sources, tmp_path):
    embed = TextEncoder(pretrained, "single").embed
    strict = dataclasses.replace(CONFIG, topk=0.4)
    store = build_pairs(pretrained, sources[0], strict, tmp_path / "strict", {}, ALL)
    again = derive_pairs(store, tmp_path / "again", {}, lambda image: image, (64, 96), embed, 1.0)
    assert_same_pairs(again, store)
    assert len(list(store.pairs())) < sum(len(row[0].entities) for row in sources[0]._rows)
    with pytest.raises(ValueError, match="has costs at 2 scales; expected 1"):
        derive_pairs(store, tmp_path / "wrong", {}, lambda image: image, (64,), embed, 1.0)
    probable = dataclasses.replace(CONFIG, cost="prob")
    store = build_pairs(pretrained, sources[0], probable, tmp_path / "prob", {}, ALL)
    with pytest.raises(ValueError, match="has cost prob; expected cosine"):
        derive_pairs(store, tmp_path / "wrong", {}, lambda image: image, (64, 96), embed, 1.0)


def test_an_entity_without_costs_is_refused(both):
    image = next(both.images()).regions
    with pytest.raises(ValueError, match="has no costs of a dog"):
        with_caption(image, make_caption(image.image_id, ("grass", "a dog")))
