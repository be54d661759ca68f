import json

import numpy as np
import pytest

from uniovseg_jax.eval.metrics.semantic import SemanticScores


def _random_maps(rng, classes):
    """Returns a prediction with void pixels and a truth that lacks classes and has such, too."""
    hw = rng.integers(1, 9, 2)
    target = rng.choice(rng.choice(classes, classes // 2 + 1, replace=False), hw)
    predicted = np.where(rng.random(hw) < 0.6, target, rng.integers(0, classes, hw))
    predicted, target = (
        np.where(rng.random(hw) < 0.1, rng.choice([255, -1, 65535]), labels)
        for labels in (predicted, target)
    )
    return predicted, target


def test_a_thousand_random_cases_equal_scikit_learns_confusion_matrix():
    metrics = pytest.importorskip("sklearn.metrics")
    rng, voids = np.random.default_rng(0), 0
    for case in range(1000):
        classes = int(rng.choice([2, 7, 50]))
        images = [_random_maps(rng, classes) for _ in range(rng.integers(1, 4))]
        scores = SemanticScores(classes)
        for predicted, target in images:
            scores.add(predicted.astype([np.uint8, np.int16, np.int64][case % 3]), target)
        predicted, target = (
            np.concatenate([image[side].ravel() for image in images]) for side in (0, 1)
        )
        scored = (target >= 0) & (target < classes)
        if not scored.any():
            continue
        target, predicted = target[scored], predicted[scored]
        # A void prediction is one of another class, which the truth never has and no mean counts.
        predicted = np.where((predicted >= 0) & (predicted < classes), predicted, classes)
        matrix = metrics.confusion_matrix(target, predicted, labels=range(classes + 1))
        voids += int(matrix[:, classes].sum())
        matrix = matrix[:classes]
        np.testing.assert_array_equal(scores.confusion, matrix.T)
        right, true = np.diagonal(matrix).astype(np.float64), matrix.sum(axis=1)
        union = true + matrix.sum(axis=0)[:classes] - right
        # Only classes that the truth has: one that is predicted and never there has no IoU.
        met = true > 0
        iou = right[met] / union[met]
        result = scores.compute()
        np.testing.assert_array_equal(np.isnan(result["iou"]), ~met)
        np.testing.assert_allclose(result["iou"][met], iou, rtol=0, atol=1e-9)
        expected = {
            "miou": iou.mean(),
            "fwiou": (true[met] / true.sum() * iou).sum(),
            "mean_accuracy": (right[met] / true[met]).mean(),
            "pixel_accuracy": metrics.accuracy_score(target, predicted),
        }
        for name, value in expected.items():
            assert result[name] == pytest.approx(value, abs=1e-9)
    assert voids > 1000


def test_a_class_that_is_only_predicted_lowers_others_and_is_not_in_the_mean():
    scores = SemanticScores(3)
    scores.add(np.array([[0, 0, 2, 1]]), np.array([[0, 0, 0, 1]]))
    result = scores.compute()
    assert result["miou"] == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(result["iou"][2])


def test_scores_are_those_of_the_dataset_not_the_mean_over_images():
    scores = SemanticScores(2)
    scores.add(np.array([[0]]), np.array([[0]]))
    scores.add(np.array([[1, 1, 1]]), np.array([[0, 0, 0]]))
    assert scores.compute()["miou"] == 0.25


@pytest.mark.parametrize("classes", [19, 255, 256, 847])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int64, np.uint64])
def test_labels_of_every_kind_that_are_no_class_are_void(classes, dtype):
    info = np.iinfo(dtype)
    values = [info.min, 0, min(classes - 1, info.max), min(classes, info.max), info.max]
    labels = np.array([values], dtype)
    scores = SemanticScores(classes)
    scores.add(labels, np.zeros_like(labels))
    inside = [int(label) for label in labels[0].tolist() if 0 <= label < classes]
    rows = np.bincount(inside, minlength=classes + 1)
    rows[classes] = 5 - len(inside)
    np.testing.assert_array_equal(scores.confusion[:, 0], rows)
    scores.add(np.zeros_like(labels), labels)
    assert scores.confusion.sum() == 5 + len(inside)
    # Larger than 32 bits, and 3 in the lower ones.
    wide = np.array([[(1 << 32) + 3]])
    scores.add(wide, wide)
    assert scores.confusion.sum() == 5 + len(inside)


def test_a_void_prediction_is_wrong_and_void_ground_truth_is_not_scored():
    scores = SemanticScores(2)
    scores.add(np.array([[0, -1, 1, 1]]), np.array([[0, 0, 1, 255]]))
    result = scores.compute()
    np.testing.assert_allclose(result["iou"], [0.5, 1.0])
    np.testing.assert_allclose(result["pixel_accuracy"], 2 / 3)


def test_counters_go_through_json_and_add_up_to_the_whole():
    rng = np.random.default_rng(1)
    whole, total = SemanticScores(7), SemanticScores(7)
    for _ in range(6):
        image = _random_maps(rng, 7)
        whole.add(*image)
        one = SemanticScores(7)
        one.add(*image)
        total.merge(SemanticScores.from_counters(7, json.loads(json.dumps(one.counters()))))
    np.testing.assert_array_equal(total.confusion, whole.confusion)
    assert total.confusion.any()
    with pytest.raises(ValueError, match="not those of 2 classes"):
        SemanticScores.from_counters(2, {"cells": [6], "pixels": [1]})
    with pytest.raises(ValueError, match="same number of classes"):
        whole.merge(SemanticScores(6))


def test_nothing_scored_is_nan_and_sizes_must_agree():
    scores = SemanticScores(3)
    assert np.isnan(scores.compute()["miou"])
    with pytest.raises(ValueError, match="size"):
        scores.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
