import numpy as np
import pytest
from made_regions import keep_regions, make_regions

from uniovseg_jax.alignment.pairs import (
    choose_confident,
    describe_pairs,
    match_costs,
    pair_margins,
    regions_to_keep,
)


def _image(costs, entities):
    costs = np.asarray(costs, np.float32)
    n = costs.shape[1]
    pooled = {"clip": np.arange(n * 3, dtype=np.float32).reshape(n, 3)}
    return make_regions("7", entities, costs, pooled)


def _matched(image):
    return describe_pairs(image, match_costs(image.costs))


def test_matching_takes_the_mean_over_scales_and_leaves_spare_masks_alone():
    # Scale one prefers region 0 for "ball", scale two region 2; the mean decides for region 2.
    costs = [[[0.3, 0.9], [0.9, 0.2], [0.4, 0.9]], [[0.7, 0.9], [0.9, 0.2], [0.3, 0.9]]]
    image = _image(costs, ["ball", "grass"])
    np.testing.assert_array_equal(match_costs(image.costs), [[2, 0], [1, 1]])
    ball, grass = _matched(image)
    assert ball.flips == (True, False)
    assert grass.flips == (False, False)


def test_the_total_cost_is_least_even_where_an_entity_does_not_get_its_best_mask():
    image = _image([[[0.1, 0.2], [0.3, 0.9]]], ["ball", "grass"])
    np.testing.assert_array_equal(match_costs(image.costs), [[1, 0], [0, 1]])
    ball = _matched(image)[0]
    assert ball.cost == pytest.approx(0.3)
    assert (ball.other_region, ball.other_entity) == (0, "grass")
    assert ball.margin == pytest.approx(0.1 - 0.3)


def test_a_pair_tells_its_mask_its_costs_and_the_runner_up():
    image = _image([[[0.1, 0.5], [0.8, 0.4]], [[0.3, 0.7], [0.8, 0.4]]], ["red ball", "grass"])
    pair = _matched(image)[0]
    assert pair.caption.id == pair.image_id == "7"
    assert pair.mask == {"size": [2, 2], "counts": "0"}
    assert pair.cost == pytest.approx(0.2)
    assert pair.cost_per_scale == pytest.approx((0.1, 0.3))
    assert pair.other_entity == "grass"
    assert pair.other_entity_cost == pytest.approx(0.6)
    assert pair.other_region == 1
    assert pair.other_region_cost == pytest.approx(0.8)
    assert pair.other_mask == {"size": [2, 2], "counts": "1"}
    assert pair.margin == pytest.approx(0.4)


def test_the_regions_of_pairs_and_those_that_came_next_are_to_keep():
    image = _image([[[0.5], [0.9], [0.1], [0.4]]], ["ball"])
    pairs = match_costs(image.costs)
    np.testing.assert_array_equal(regions_to_keep(image.costs, pairs), [2, 3])
    (pair,) = describe_pairs(keep_regions(image, [2, 3]), pairs)
    assert pair.other_mask == {"size": [2, 2], "counts": "3"}
    (pair,) = describe_pairs(keep_regions(image, [2]), pairs)
    assert pair.other_region == 3 and pair.other_mask is None
    lone = match_costs(image.costs[:, :1])
    np.testing.assert_array_equal(regions_to_keep(image.costs[:, :1], lone), [0])
    assert regions_to_keep(image.costs, lone[:0]).shape == (0,)


def test_margins_are_those_of_the_described_pairs():
    rng = np.random.default_rng(0)
    for _ in range(50):
        n, e = rng.integers(1, 6, 2)
        image = _image(rng.random((2, n, e)), [f"thing {i}" for i in range(e)])
        pairs, mean = match_costs(image.costs), image.costs.mean(axis=0)
        for (region, entity), margin in zip(pairs, pair_margins(image.costs, pairs), strict=True):
            others = [c for k, c in enumerate(mean[region]) if k != entity]
            others += [c for k, c in enumerate(mean[:, entity]) if k != region]
            expected = min(others, default=np.inf) - mean[region, entity]
            assert margin == pytest.approx(expected, abs=1e-6)


def test_the_cheapest_pairs_and_the_similar_ones_can_be_kept():
    costs = np.array([[[0.1, 0.9, 0.9], [0.9, 0.3, 0.9], [0.9, 0.9, 0.6]]], np.float32)
    np.testing.assert_array_equal(match_costs(costs, topk=0.7), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(match_costs(costs, topk=0.01), [[0, 0]])
    np.testing.assert_array_equal(match_costs(costs, min_cosine=0.5), [[0, 0], [1, 1]])
    assert match_costs(costs, min_cosine=0.95).shape == (0, 2)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (1.0, [True] * 5),
        (0.6, [True, False, True, True, False]),
        (0.4, [True, False, True, False, False]),
        (0.01, [False, False, True, False, False]),
    ],
)
def test_the_pairs_with_the_largest_margins_are_trusted(share, expected):
    # Of two equal margins the first one is taken.
    margins = np.array([0.3, -0.2, np.inf, 0.1, 0.1])
    np.testing.assert_array_equal(choose_confident(margins, share), expected)


def test_without_pairs_none_is_trusted():
    assert choose_confident(np.zeros(0), 0.5).shape == (0,)


def test_images_without_masks_or_entities_give_no_pairs():
    assert match_costs(np.zeros((2, 0, 3), np.float32)).shape == (0, 2)
    assert match_costs(np.zeros((2, 3, 0), np.float32)).shape == (0, 2)


def test_a_single_mask_with_a_single_entity_has_no_runner_up():
    (pair,) = _matched(_image([[[0.5]]], ["ball"]))
    assert pair.other_entity is None and pair.other_region is None and pair.margin == np.inf
    assert pair.other_mask is None


def test_costs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        match_costs(np.array([[[np.nan, 0.1], [0.2, 0.3]]]))


def test_only_what_was_kept_is_given():
    image = keep_regions(_image(np.zeros((1, 3, 1)), ["ball"]), [2])
    np.testing.assert_array_equal(image.vectors(2)["clip"], [6, 7, 8])
    assert image.mask(2)["counts"] == "2"
    for region in (0, 1, 3):
        for ask in (image.vectors, image.mask):
            with pytest.raises(ValueError, match=f"Region {region} of image 7 was not kept"):
                ask(region)
