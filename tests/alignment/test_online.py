"""Online batches: what a store keeps, made as it is needed, from any place."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_regions import CaptionedList, make_caption

from uniovseg_jax.alignment.build import BuildOptions, build_pairs
from uniovseg_jax.alignment.online import Matcher, OnlineBatches
from uniovseg_jax.alignment.regions import AlignmentConfig, RegionGenerator
from uniovseg_jax.data.subset import Subset
from uniovseg_jax.proposals import ProposalConfig
from uniovseg_jax.text_encoder import TextEncoder
from uniovseg_jax.train.objectives import make_stage2_loss

NAMES = ("grass", "red ball", "blue house")
PROPOSALS = ProposalConfig(points_per_side=3, score_threshold=0.0)
CONFIG = AlignmentConfig(PROPOSALS, max_masks=6, max_entities=4, templates="single", batch_size=2)


@pytest.fixture(scope="module")
def images(pictures):
    return CaptionedList(
        [(make_caption(str(i), NAMES[: i % 4]), image) for i, image in enumerate(pictures)]
    )


@pytest.fixture(scope="module")
def matcher(pretrained):
    generator = RegionGenerator(pretrained, CONFIG, TextEncoder(pretrained, "single"))
    return Matcher(generator, with_maps=False)


def collect(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, expected):
    for one, other in zip(batches, expected, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_batches_go_on_from_any_place(images, matcher):
    batches = OnlineBatches(images, matcher, 2, seed=1, num_threads=1)
    expected = collect(iter(batches), 5)
    for done in range(4):
        iterator = iter(batches)
        collect(iterator, done)
        state = json.loads(json.dumps(iterator.get_state()))
        other = iter(batches)
        collect(other, 2)
        other.set_state(state)
        assert_same(collect(other, 5 - done), expected[done:])


def test_the_pairs_are_those_that_a_store_keeps(pretrained, images, matcher, tmp_path):
    store = build_pairs(
        pretrained, images, CONFIG, tmp_path / "pairs", {}, BuildOptions(progress=False)
    )
    kept = store.targets().examples(np.arange(store.manifest["targets"]))
    online = collect(iter(OnlineBatches(images, matcher, 2, seed=0, num_threads=1)), 3)
    valid = np.concatenate([batch["valid"] for batch in online])
    assert valid.sum() == len(kept["valid"]) == 7
    for name in ("text", "pooled"):
        found = [np.concatenate(leaves)[valid] for leaves in _columns(online, name)]
        expected = jax.tree.leaves(kept[name])
        for some, other in zip(found, expected, strict=True):
            order, other_order = (np.lexsort(x.T[::-1]) for x in (some, other))
            np.testing.assert_allclose(some[order], other[other_order], atol=1e-4)
    losses = []
    for batch in (kept, jax.tree.map(lambda *x: np.concatenate(x), *online)):
        for name in ("cosine", "contrastive"):
            objective = make_stage2_loss(pretrained.model, name)
            batch = jax.tree.map(jnp.asarray, batch)
            losses.append(float(objective(pretrained.variables, batch, jax.random.key(0))[0]))
    np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-5)


def _columns(batches, name):
    return zip(*(jax.tree.leaves(batch[name]) for batch in batches), strict=True)


def test_images_without_entities_weigh_nothing(pretrained, images, matcher):
    with_others = next(iter(OnlineBatches(images, matcher, 2, seed=0, num_threads=1)))
    empty = Subset(images, np.array([0, 4]))  # Neither has an entity.
    assert [len(empty[i].caption.entities) for i in range(2)] == [0, 0]
    batch = next(iter(OnlineBatches(empty, matcher, 2, seed=0, num_threads=1)))
    assert not batch["valid"].any()
    for name in ("cosine", "contrastive"):
        objective = make_stage2_loss(pretrained.model, name)

        @jax.jit
        def compute(adapter, batch, objective=objective):
            params = {**pretrained.variables["params"], "adapter": adapter}
            variables = {**pretrained.variables, "params": params}
            return objective(variables, batch, jax.random.key(0))[0]

        differentiate = jax.value_and_grad(compute)
        adapter = pretrained.variables["params"]["adapter"]
        loss, grads = differentiate(adapter, batch)
        assert float(loss) == 0
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(grads))
        both = jax.tree.map(lambda *x: np.concatenate(x), with_others, batch)
        for one, other in zip(
            jax.tree.leaves(differentiate(adapter, both)),
            jax.tree.leaves(differentiate(adapter, with_others)),
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_each_process_matches_its_own_share(images, pretrained):
    def collect_share(share, batch_size):
        config = AlignmentConfig(
            PROPOSALS, max_masks=6, max_entities=4, templates="single", batch_size=batch_size
        )
        encoder = TextEncoder(pretrained, "single")
        matcher = Matcher(RegionGenerator(pretrained, config, encoder), with_maps=False)
        batches = OnlineBatches(images, matcher, 4, 3, share, num_threads=1)
        return collect(iter(batches), 2)

    whole = collect_share((0, 1), 4)
    parts = zip(*(collect_share((process, 2), 2) for process in range(2)), strict=True)
    for batch, shares in zip(whole, parts, strict=True):
        joined = jax.tree.map(lambda *x: np.concatenate(x), *shares)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), joined, batch)


def test_a_dense_adapter_gets_images_and_masks(pretrained, images):
    encoder = TextEncoder(pretrained, "single")
    matcher = Matcher(RegionGenerator(pretrained, CONFIG, encoder), with_maps=True)
    batch = next(iter(OnlineBatches(images, matcher, 2, seed=0, num_threads=1)))
    assert batch["image"].shape == (2, 64, 64, 3)
    assert batch["masks"].shape == (2, 4, 16, 16)
    assert (batch["masks"][batch["valid"]] >= 0).any(axis=(1, 2)).all()
    assert (batch["masks"][~batch["valid"]] == -1).all()
    assert "pooled" not in batch


def test_a_picture_that_cannot_be_read_has_no_pairs(images, matcher, monkeypatch):
    def getitem(self, index):
        raise ValueError("The file is torn.")

    monkeypatch.setattr(CaptionedList, "__getitem__", getitem)
    batches = OnlineBatches(images, matcher, 2, seed=0, num_threads=1, max_skipped=1.0)
    assert not next(iter(batches))["valid"].any()
    with pytest.raises(ValueError, match="cannot be used: The file is torn"):
        next(iter(OnlineBatches(images, matcher, 2, seed=0, num_threads=1)))
