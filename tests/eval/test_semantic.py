import numpy as np
import pytest

from uniovseg_jax.eval.semantic import SemanticScores


def _random_maps(seed, classes=7, images=4):
    rng = np.random.default_rng(seed)
    for _ in range(images):
        target = rng.integers(0, classes - 1, (20, 30))  # the last class never occurs
        predicted = np.where(rng.random((20, 30)) < 0.6, target, rng.integers(0, classes, (20, 30)))
        target = np.where(rng.random((20, 30)) < 0.1, 255, target)
        yield predicted, target


def test_scores_equal_those_from_scikit_learns_confusion_matrix():
    metrics = pytest.importorskip("sklearn.metrics")
    classes = 7
    maps = list(_random_maps(0, classes))
    scores = SemanticScores(classes)
    for predicted, target in maps:
        scores.add(predicted, target)
    predicted = np.concatenate([p.ravel() for p, _ in maps])
    target = np.concatenate([t.ravel() for _, t in maps])
    scored = target != 255
    matrix = metrics.confusion_matrix(target[scored], predicted[scored], labels=range(classes))
    iou = metrics.jaccard_score(
        target[scored], predicted[scored], labels=range(classes), average=None, zero_division=0
    )
    present = matrix.sum(1) > 0
    result = scores.compute()
    np.testing.assert_array_equal(scores.confusion[:-1], matrix.T)
    np.testing.assert_allclose(result["iou"][present], iou[present], rtol=1e-12)
    np.testing.assert_allclose(result["miou"], iou[present].mean(), rtol=1e-12)
    weights = matrix.sum(1) / matrix.sum()
    np.testing.assert_allclose(result["fwiou"], (weights * iou)[present].sum(), rtol=1e-12)
    np.testing.assert_allclose(
        result["pixel_accuracy"], metrics.accuracy_score(target[scored], predicted[scored])
    )
    assert np.isnan(result["iou"][-1])


def test_a_void_prediction_is_wrong_and_void_ground_truth_is_not_scored():
    scores = SemanticScores(2)
    scores.add(np.array([[0, -1, 1, 1]]), np.array([[0, 0, 1, 255]]))
    result = scores.compute()
    np.testing.assert_allclose(result["iou"], [0.5, 1.0])
    np.testing.assert_allclose(result["pixel_accuracy"], 2 / 3)


def test_merging_parts_gives_the_result_of_the_whole():
    whole, left, right = SemanticScores(7), SemanticScores(7), SemanticScores(7)
    for i, (predicted, target) in enumerate(_random_maps(1)):
        whole.add(predicted, target)
        (left if i % 2 else right).add(predicted, target)
    left.merge(right)
    np.testing.assert_array_equal(left.confusion, whole.confusion)


def test_nothing_scored_is_nan_and_sizes_must_agree():
    scores = SemanticScores(3)
    assert np.isnan(scores.compute()["miou"])
    with pytest.raises(ValueError, match="size"):
        scores.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
