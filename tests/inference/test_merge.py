"""Golden cases small enough to check by eye, and literal float64 loops as oracles."""

import tracemalloc

import numpy as np
import pytest

from uniovseg_jax.inference import full_size, merge
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.packed_masks import PackedMasks


def _random_case(seed, n=7, t=4, hw=(23, 31)):
    rng = np.random.default_rng(seed)
    # Smooth logits, so that masks have an inside.
    y, x = np.mgrid[: hw[0], : hw[1]]
    centres = rng.uniform(0, 1, (n, 2)) * hw
    radii = rng.uniform(3, 10, n)
    distance = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    logits = (radii[:, None, None] - distance + rng.normal(size=(n, *hw))).astype(np.float32)
    probs = rng.dirichlet(np.ones(t), n).astype(np.float32)
    return probs, logits


def _sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def _literal_semantic(probs, logits):
    scores = np.einsum("nt,nhw->thw", probs.astype(np.float64), _sigmoid(logits))
    return np.where((_sigmoid(logits) >= 0.5).any(0), scores.argmax(0), -1)


def _literal_panoptic(labels, weights, is_thing, logits, overlap):
    """Mask2Former's loop, one mask at a time."""
    probs = _sigmoid(logits)
    owner = (weights[:, None, None] * probs).argmax(0)
    result, categories, stuff = np.zeros(logits.shape[1:], int), [], {}
    for n in np.argsort(-weights, kind="stable"):
        owned, original = owner == n, probs[n] >= 0.5
        final = owned & original
        if not owned.any() or not original.any() or not final.any():
            continue
        if owned.sum() / original.sum() < overlap:
            continue
        if not is_thing[labels[n]] and labels[n] in stuff:
            result[final] = stuff[labels[n]]
            continue
        categories.append(labels[n])
        result[final] = len(categories)
        if not is_thing[labels[n]]:
            stuff[labels[n]] = len(categories)
    return result, categories


@pytest.mark.parametrize("seed", range(4))
def test_semantic_map_equals_the_dense_float64_sum(seed, monkeypatch):
    probs, logits = _random_case(seed)
    monkeypatch.setattr(full_size, "_TILE", 8)
    found = merge.semantic_map(probs, FullSizeLogits.at_own_size(logits))
    np.testing.assert_array_equal(found, _literal_semantic(probs, logits))


@pytest.mark.parametrize("sharpness", [0.0, 3.0, 30.0])
def test_many_classes_are_left_out_and_none_that_is_anywhere_the_best(sharpness, monkeypatch):
    rng = np.random.default_rng(8)
    y, x = np.mgrid[:96, :120]
    centres, radii = rng.uniform(0, 96, (12, 2)), rng.uniform(10, 60, 12)
    distance = np.hypot(y - centres[:, :1, None], x - centres[:, 1:, None])
    logits = ((radii[:, None, None] - distance) / 4).astype(np.float32)
    probs = rng.dirichlet(np.ones(300), 12) ** (1 + sharpness)
    probs = (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)
    probs[:, 77] = probs[:, 11]  # Of equals the first one counts.
    used = []
    whole = merge._best_classes

    def count(mask_probs, weights, min_share):
        most, least = mask_probs.max(axis=0) @ weights, mask_probs.min(axis=0) @ weights
        used.append((most >= (1 - merge._MARGIN) * least.max()).mean())
        return whole(mask_probs, weights, min_share)

    monkeypatch.setattr(merge, "_best_classes", count)
    monkeypatch.setattr(full_size, "_TILE", 8)
    found = merge.semantic_map(probs, FullSizeLogits.at_own_size(logits), fill=True)
    scores = np.einsum("nt,nhw->hwt", probs.astype(np.float64), _sigmoid(logits))
    np.testing.assert_allclose(
        np.take_along_axis(scores, found[..., None], -1)[..., 0], scores.max(-1), rtol=1e-5
    )
    assert (found == scores.argmax(-1)).mean() > 0.999 and not (found == 77).any()
    assert len(used) == 12 * 15 and np.mean(used) < (0.8 if sharpness == 0.0 else 0.3)


def test_a_filled_semantic_map_gives_every_pixel_its_largest_sum():
    probs, logits = _random_case(5)
    found = merge.semantic_map(probs, FullSizeLogits.at_own_size(logits), fill=True)
    scores = np.einsum("nt,nhw->thw", probs.astype(np.float64), _sigmoid(logits))
    np.testing.assert_array_equal(found, scores.argmax(0))
    assert (_literal_semantic(probs, logits) == -1).any()


def test_pixels_whose_class_has_too_small_a_share_are_void():
    probs, logits = _random_case(6)
    found = merge.semantic_map(probs, FullSizeLogits.at_own_size(logits), True, 0.5)
    scores = np.einsum("nt,nhw->thw", probs.astype(np.float64), _sigmoid(logits))
    share = scores.max(0) / scores.sum(0)
    assert 0 < (share < 0.5).mean() < 1
    np.testing.assert_array_equal(found, np.where(share < 0.5, -1, scores.argmax(0)))


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_a_larger_mask_of_their_class_are_dropped(seed):
    rng = np.random.default_rng(seed)
    masks = _random_case(seed, n=9)[1] > 0
    masks[3] = masks[2]  # Twice the same: the first stays.
    labels = rng.integers(0, 2, 9)
    kept = []
    for index in sorted(range(9), key=lambda n: (-masks[n].sum(), n)):
        parts = [
            (masks[index] & masks[other]).sum() >= 0.8 * max(masks[index].sum(), 1)
            for other in kept
            if labels[other] == labels[index]
        ]
        if not any(parts):
            kept.append(index)
    found = merge.whole_masks(PackedMasks.from_masks(masks, masks.shape[1:]), labels, 0.8)
    assert found.tolist() == sorted(kept)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("overlap", [0.0, 0.4, 0.8])
def test_panoptic_map_equals_the_literal_loop(seed, overlap, monkeypatch):
    probs, logits = _random_case(seed)
    monkeypatch.setattr(full_size, "_TILE", 8)
    labels, weights = probs.argmax(1), probs.max(1)
    is_thing = np.array([True, True, False, False])
    found, segments = merge.panoptic_map(
        labels, weights, is_thing, FullSizeLogits.at_own_size(logits), overlap
    )
    expected, categories = _literal_panoptic(labels, weights, is_thing, logits, overlap)
    np.testing.assert_array_equal(found, expected)
    assert [segment.category for segment in segments] == categories
    assert [segment.id for segment in segments] == list(range(1, len(categories) + 1))


@pytest.mark.parametrize("seed", range(6))
def test_of_many_masks_few_are_looked_at_in_a_tile_and_none_is_missed(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    # Sharp masks at a quarter of the image's size, some of them twice.
    _, logits = _random_case(seed, n=60, hw=(40, 60))
    logits[50:] = logits[:10]
    weights = rng.uniform(0.01, 1, 60).astype(np.float32)
    weights[50:] = weights[:10]
    labels, is_thing = rng.integers(0, 5, 60), np.array([True, True, True, False, False])
    full = FullSizeLogits(logits, (160, 240), (160, 240), (160, 240))
    whole = np.stack([full.mask(index) for index in range(60)])
    looked_at, read = [], full_size.Tile.logits

    def count(tile, masks=None):
        looked_at.append(60 if masks is None else len(masks))
        return read(tile, masks)

    monkeypatch.setattr(full_size.Tile, "logits", count)
    found, segments = merge.panoptic_map(labels, weights, is_thing, full, 0.1)
    assert 0 < np.mean(looked_at) < 30
    expected, categories = _literal_panoptic(labels, weights, is_thing, whole, 0.1)
    np.testing.assert_array_equal(found, expected)
    assert [segment.category for segment in segments] == categories and len(categories) > 3
    # Instances are looked at where they are.
    looked_at.clear()
    instances = merge.rank_instances(np.eye(5)[labels] * weights[:, None], is_thing, full, 300)
    assert np.mean(looked_at) < 20 and len(instances) == is_thing[labels].sum()
    for instance in instances:
        inside = whole[instance.mask] > 0
        np.testing.assert_array_equal(instance.pixels, inside)
        factor = _sigmoid(whole[instance.mask])[inside].mean()
        assert instance.score == pytest.approx(weights[instance.mask] * factor, rel=1e-5)


def test_two_stuff_masks_of_one_class_become_one_segment_and_two_things_stay_two():
    logits = np.full((2, 4, 8), -9.0, np.float32)
    logits[0, :, :4] = logits[1, :, 4:] = 9.0
    full = FullSizeLogits.at_own_size(logits)
    labels, weights = np.array([0, 0]), np.array([0.9, 0.8])
    stuff, segments = merge.panoptic_map(labels, weights, np.array([False]), full, 0.4)
    assert (stuff == 1).all() and segments[0].masks == (0, 1)
    things, segments = merge.panoptic_map(labels, weights, np.array([True]), full, 0.4)
    assert len(segments) == 2 and set(np.unique(things)) == {1, 2}


def test_a_mask_mostly_owned_by_another_is_dropped():
    logits = np.full((2, 10, 10), -9.0, np.float32)
    logits[0, :, :7] = 9.0
    logits[1, :, :10] = 9.0  # Owns 30 of its 100 pixels.
    found, segments = merge.panoptic_map(
        np.array([0, 0]),
        np.array([0.9, 0.5]),
        np.array([True]),
        FullSizeLogits.at_own_size(logits),
        0.4,
    )
    assert [segment.masks for segment in segments] == [(0,)]
    assert (found[:, 7:] == 0).all()


def test_pixels_under_no_mask_are_void():
    logits = np.full((1, 4, 4), -0.1, np.float32)
    logits[0, 1, 2] = 0.0
    full = FullSizeLogits.at_own_size(logits)
    semantic = merge.semantic_map(np.array([[0.3, 0.7]], np.float32), full)
    assert semantic[1, 2] == 1 and (np.delete(semantic.ravel(), 6) == -1).all()


def test_no_masks_at_all_leave_everything_void():
    full = FullSizeLogits(np.zeros((0, 4, 4), np.float32), (16, 16), (16, 12), (7, 5))
    assert (merge.semantic_map(np.zeros((0, 3), np.float32), full) == -1).all()
    empty = np.zeros(0)
    found, segments = merge.panoptic_map(empty.astype(int), empty, np.ones(3, bool), full, 0.4)
    assert found.shape == (7, 5) and not found.any() and not segments
    assert merge.rank_instances(np.zeros((0, 3), np.float32), np.ones(3, bool), full, 100) == []


def test_instances_are_ranked_by_probability_times_mean_foreground():
    logits = np.full((2, 4, 4), -9.0, np.float32)
    logits[0, :2] = np.log(3.0)  # Foreground probability 0.75.
    logits[1, 2:] = 20.0
    probs = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]], np.float32)
    full = FullSizeLogits.at_own_size(logits)
    found = merge.rank_instances(probs, np.array([True, True, False]), full, 3)
    assert [(i.mask, i.category) for i in found] == [(1, 1), (0, 0)]
    np.testing.assert_allclose([i.score for i in found], [0.7, 0.6], rtol=1e-5)
    for instance in found:
        np.testing.assert_array_equal(instance.pixels, logits[instance.mask] > 0)
    assert len(merge.rank_instances(probs, np.array([True, True, True]), full, 1)) == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["semantic", "panoptic", "instance"])
def test_847_classes_on_12_megapixels_stay_under_2_gib(kind):
    rng = np.random.default_rng(0)
    count, classes = 250, 847
    logits = rng.normal(size=(count, 200, 272)).astype(np.float32)
    full = FullSizeLogits(logits, (800, 1088), (800, 1067), (3000, 4000))
    probs = rng.dirichlet(np.ones(classes), count).astype(np.float32)
    tracemalloc.start()
    try:
        if kind == "semantic":
            result = merge.semantic_map(probs, full, fill=True)
        elif kind == "panoptic":
            labels, weights = probs.argmax(axis=1), probs.max(axis=1)
            result, _ = merge.panoptic_map(labels, weights, np.ones(classes, bool), full, 0.8)
        else:
            found = merge.rank_instances(probs, np.ones(classes, bool), full, 100)
            result = found[0].pixels
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.shape == (3000, 4000)
    # The logits as they come from the network were there before.
    assert peak + logits.nbytes < 2 << 30, f"{peak / 2**30:.2f} GiB"
    print(f"{kind}: {peak / 2**30:.2f} GiB")
