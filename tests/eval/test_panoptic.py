import numpy as np
import pytest

from uniovseg_jax.eval.panoptic import PanopticScores, Segment

IS_THING = (True, True, False)


def _brute_force(images):
    """PQ counters by comparing every pair of masks of equal class (no crowds)."""
    iou_sum, tp, fp, fn = np.zeros(3), np.zeros(3, int), np.zeros(3, int), np.zeros(3, int)
    for predicted, guesses, target, truths in images:
        used = set()
        for truth in truths:
            hit = False
            for guess in guesses:
                if guess.category != truth.category:
                    continue
                g, t = predicted == guess.id, target == truth.id
                union = (g | t) & ~(g & (target == 0))
                iou = (g & t).sum() / union.sum()
                if iou > 0.5:
                    iou_sum[truth.category] += iou
                    tp[truth.category] += 1
                    used.add(guess.id)
                    hit = True
            fn[truth.category] += not hit
        for guess in guesses:
            if guess.id not in used:
                on_void = (target[predicted == guess.id] == 0).mean()
                fp[guess.category] += on_void <= 0.5
    return iou_sum, tp, fp, fn


def _random_image(rng):
    target = np.kron(rng.integers(0, 5, (4, 4)), np.ones((5, 5), int))
    predicted = np.where(rng.random(target.shape) < 0.85, target, rng.integers(0, 7, target.shape))
    truths = [Segment(int(i), int(i) % 3) for i in np.unique(target) if i]
    guesses = [
        Segment(int(i), int(i) % 3 if rng.random() < 0.8 else int(rng.integers(3)))
        for i in np.unique(predicted)
        if i
    ]
    return predicted, guesses, target, truths


def test_counters_equal_a_brute_force_comparison_of_all_pairs():
    rng = np.random.default_rng(0)
    images = [_random_image(rng) for _ in range(20)]
    scores = PanopticScores(IS_THING)
    for image in images:
        scores.add(*image)
    iou_sum, tp, fp, fn = _brute_force(images)
    np.testing.assert_allclose(scores.iou_sum, iou_sum, rtol=1e-12)
    np.testing.assert_array_equal(scores.true_positive, tp)
    np.testing.assert_array_equal(scores.false_positive, fp)
    np.testing.assert_array_equal(scores.false_negative, fn)
    result = scores.compute()
    pq = iou_sum / (tp + fp / 2 + fn / 2)
    np.testing.assert_allclose(result["all"]["pq"], pq.mean())
    np.testing.assert_allclose(result["things"]["pq"], pq[:2].mean())
    np.testing.assert_allclose(result["stuff"]["rq"], (tp / (tp + fp / 2 + fn / 2))[2])


def test_an_iou_of_exactly_one_half_does_not_match():
    predicted, target = np.array([[1, 0]]), np.array([[1, 1]])
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 0)], target, [Segment(1, 0)])
    assert (scores.true_positive[0], scores.false_positive[0], scores.false_negative[0]) == (
        0,
        1,
        1,
    )


def test_a_prediction_mostly_on_void_or_its_own_crowd_is_not_a_false_positive():
    target = np.array([[0, 0, 0, 2, 2, 2]])
    predicted = np.array([[1, 1, 1, 3, 3, 3]])
    truths = [Segment(2, 1, iscrowd=True)]
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 0), Segment(3, 1)], target, truths)
    assert scores.false_positive.sum() == scores.false_negative.sum() == 0
    scores.add(predicted, [Segment(1, 0), Segment(3, 0)], target, truths)
    np.testing.assert_array_equal(scores.false_positive, [1, 0, 0])


def test_the_stated_area_of_ground_truth_enters_the_union():
    target = predicted = np.array([[1, 1, 1, 1]])
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 2)], target, [Segment(1, 2, area=6)])
    np.testing.assert_allclose(scores.iou_sum[2], 4 / 6)


def test_merging_parts_gives_the_result_of_the_whole():
    rng = np.random.default_rng(1)
    whole, left, right = (PanopticScores(IS_THING) for _ in range(3))
    for i in range(6):
        image = _random_image(rng)
        whole.add(*image)
        (left if i % 2 else right).add(*image)
    left.merge(right)
    for group in ("all", "things", "stuff"):
        assert left.compute()[group] == pytest.approx(whole.compute()[group])


def test_an_unlisted_predicted_segment_is_refused():
    scores = PanopticScores(IS_THING)
    with pytest.raises(ValueError, match=r"\[2\]"):
        scores.add(np.array([[1, 2]]), [Segment(1, 0)], np.array([[0, 0]]), [])


def test_classes_never_met_are_left_out_of_the_means():
    scores = PanopticScores(IS_THING)
    scores.add(np.array([[1]]), [Segment(1, 0)], np.array([[1]]), [Segment(1, 0)])
    result = scores.compute()
    assert result["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "classes": 1}
    assert np.isnan(result["stuff"]["pq"])
