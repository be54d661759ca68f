import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uniovseg_jax.alignment.build import build_pairs
from uniovseg_jax.alignment.regions import AlignmentConfig, generate_regions, make_region_costs
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.models.presets import get_preset
from uniovseg_jax.models.tokenizer import train_tokenizer
from uniovseg_jax.models.uniovseg import UniOVSeg, init_variables
from uniovseg_jax.proposals import ProposalConfig, make_proposer
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.weights.store import Pretrained

NAMES = ["grass", "red ball", "blue house"]
# A random quality head says about one half everywhere.
PROPOSALS = ProposalConfig(points_per_side=3, score_threshold=0.0)


@pytest.fixture(scope="module")
def pretrained():
    config = get_preset("test")
    tokenizer = train_tokenizer(
        [f"a photo of a {name}." for name in NAMES],
        config.clip.vocab_size,
        config.clip.context_length,
    )
    parts = ("clip", "masks")
    variables = init_variables(config, jax.random.key(0), parts)
    return Pretrained(UniOVSeg(config), config, variables, tokenizer, parts, {})


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
    records = [(str(i), image, NAMES[: i % 4]) for i, image in enumerate(_images(5, side=50))]
    encoder = TextEncoder(pretrained, "single")

    def generate(batch_size):
        config = AlignmentConfig(PROPOSALS, max_masks=12, max_entities=5, batch_size=batch_size)
        return list(generate_regions(pretrained, records, config, encoder))

    for one, many in zip(generate(1), generate(3), strict=True):
        assert one.image_id == many.image_id
        assert one.entities == many.entities
        assert len(one.masks) == len(many.masks) == one.costs.shape[1] > 0
        assert rle_decode(one.masks[0]).shape == (50, 50)
        assert one.costs.shape[2] == len(one.entities)
        np.testing.assert_allclose(one.costs, many.costs, atol=1e-4)
        np.testing.assert_allclose(one.pooled["res3"], many.pooled["res3"], atol=1e-3)


def test_pairs_are_built_once_and_kept(pretrained, tmp_path):
    records = [(str(i), image, NAMES[:2]) for i, image in enumerate(_images(3))]
    config = AlignmentConfig(PROPOSALS, max_masks=6, templates="single", batch_size=2)

    def build(given, source):
        return build_pairs(
            pretrained, given, config, tmp_path / "pairs", source, total=3, progress=False
        )

    store = build(records, {"seed": 0})
    assert store.manifest["counts"]["images"] == 3
    assert store.manifest["counts"]["pairs"] == len(list(store.pairs())) == 6
    assert {pair.entity for pair in store.pairs()} == {"grass", "red ball"}
    arrays = store.arrays()
    np.testing.assert_allclose(np.linalg.norm(arrays["text"], axis=1), 1, atol=1e-5)
    # The second time the records are not even looked at; other records are another store.
    again = build(iter(()), {"seed": 0})
    assert again.manifest == store.manifest
    with pytest.raises(ValueError, match="No image gave a pair"):
        build([], {"seed": 1})
    assert build(iter(()), {"seed": 0}).manifest == store.manifest


def test_only_the_confident_pairs_are_trained_on(pretrained, tmp_path):
    records = [(str(i), image, NAMES[:2]) for i, image in enumerate(_images(4))]

    def build(name, **options):
        config = AlignmentConfig(
            PROPOSALS, max_masks=6, templates="single", batch_size=2, **options
        )
        return build_pairs(pretrained, records, config, tmp_path / name, {}, progress=False)

    every, half = build("every"), build("half", confident_share=0.5)
    pairs = list(half.pairs())
    assert len(pairs) == len(list(every.pairs())) == 8
    assert every.confident().all() and every.manifest["targets"] == 8
    confident = half.confident()
    margins = np.array([pair.margin for pair in pairs])
    assert confident.sum() == half.manifest["targets"] == 4
    assert margins[confident].min() >= margins[~confident].max()
    targets = half.targets()
    assert [targets.names[i] for i in targets.entity] == [
        pair.entity for pair, chosen in zip(pairs, confident, strict=True) if chosen
    ]


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="expected a share above 0 and up to 1"):
        AlignmentConfig(confident_share=share)


def test_too_many_entities_are_refused(pretrained):
    config = AlignmentConfig(PROPOSALS, max_entities=1, batch_size=1)
    records = [("x", _images(1)[0], NAMES)]
    with pytest.raises(ValueError, match="Image x has 3 entities"):
        list(generate_regions(pretrained, records, config, TextEncoder(pretrained, "single")))
