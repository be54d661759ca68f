import numpy as np
import pytest

from uniovseg_jax.alignment.pairs import ImageRegions, choose_confident, describe_pair, match_image


def _image(costs, entities):
    costs = np.asarray(costs, np.float32)
    n = costs.shape[1]
    return ImageRegions(
        image_id="7",
        entities=tuple(entities),
        masks=tuple({"size": [2, 2], "counts": str(i)} for i in range(n)),
        scores=np.linspace(1, 0.5, n, dtype=np.float32),
        costs=costs,
        pooled={"clip": np.arange(n * 3, dtype=np.float32).reshape(n, 3)},
    )


def test_matching_takes_the_mean_over_scales_and_leaves_spare_masks_alone():
    # Scale one prefers region 0 for "ball", scale two region 2; the mean decides for region 2.
    image = _image(
        [[[0.3, 0.9], [0.9, 0.2], [0.4, 0.9]], [[0.7, 0.9], [0.9, 0.2], [0.3, 0.9]]],
        ["ball", "grass"],
    )
    np.testing.assert_array_equal(match_image(image), [[2, 0], [1, 1]])


def test_the_total_cost_is_least_even_where_an_entity_does_not_get_its_best_mask():
    image = _image([[[0.1, 0.2], [0.3, 0.9]]], ["ball", "grass"])
    pairs = match_image(image)
    np.testing.assert_array_equal(pairs, [[1, 0], [0, 1]])
    ball = describe_pair(image, *pairs[0].tolist())
    assert ball.cost == pytest.approx(0.3)
    assert (ball.other_region, ball.other_entity) == (0, "grass")
    assert ball.margin == pytest.approx(0.1 - 0.3)


def test_a_pair_tells_its_mask_its_costs_and_the_runner_up():
    image = _image([[[0.1, 0.5], [0.8, 0.4]], [[0.3, 0.7], [0.8, 0.4]]], ["red ball", "grass"])
    pair = describe_pair(image, 0, 0)
    assert pair.mask == {"size": [2, 2], "counts": "0"}
    assert pair.cost == pytest.approx(0.2)
    assert pair.cost_per_scale == pytest.approx((0.1, 0.3))
    assert pair.other_entity == "grass"
    assert pair.other_entity_cost == pytest.approx(0.6)
    assert pair.other_region == 1
    assert pair.other_region_cost == pytest.approx(0.8)
    assert pair.margin == pytest.approx(0.4)


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
    assert match_image(_image(np.zeros((2, 0, 3)), ["a", "b", "c"])).shape == (0, 2)
    assert match_image(_image(np.zeros((2, 3, 0)), [])).shape == (0, 2)


def test_a_single_mask_with_a_single_entity_has_no_runner_up():
    pair = describe_pair(_image([[[0.5]]], ["ball"]), 0, 0)
    assert pair.other_entity is None and pair.other_region is None and pair.margin == np.inf


def test_costs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        match_image(_image([[[np.nan, 0.1], [0.2, 0.3]]], ["a", "b"]))
