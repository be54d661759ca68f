"""Mask AP against pycocotools and hotcoco, and what is done to masks before they reach C code."""

import contextlib
import copy
import io
import json
import sys

import numpy as np
import pytest
from made_objects import HW, random_coco

from uniovseg_jax.benchmarks.benchmark import TrueInstance
from uniovseg_jax.eval.metrics.instance import MEASURES, InstanceScores, PredictedInstance
from uniovseg_jax.masks import rle_decode, rle_encode

INDEX = {3: 0, 7: 1, 20: 2}
pytest.importorskip("pycocotools")


def add(scores, document, results, images):
    for image_id in images:
        predicted = [
            PredictedInstance(r["segmentation"], INDEX[r["category_id"]], r["score"])
            for r in results
            if r["image_id"] == image_id
        ]
        truth = [
            TrueInstance(a["segmentation"], INDEX[a["category_id"]], a["area"], bool(a["iscrowd"]))
            for a in document["annotations"]
            if a["image_id"] == image_id
        ]
        scores.add(image_id, predicted, truth)
    return scores


def score(document, results):
    images = [image["id"] for image in document["images"]]
    return add(InstanceScores(3), document, results, images)


def reference(document, results):
    """Returns the precisions of pycocotools: thresholds, recalls, classes, areas."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(document)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6], evaluation.eval["precision"][..., -1]


def test_a_thousand_random_cases_equal_pycocotools_and_hotcoco():
    hotcoco = pytest.importorskip("hotcoco")
    rng = np.random.default_rng(0)
    sums = np.zeros(6)
    for _ in range(1000):
        document, results = random_coco(rng, int(rng.integers(1, 3)))
        if not results:
            continue
        computed = score(document, results).compute()
        found = np.nan_to_num([computed["all"][name] for name in MEASURES], nan=-1)
        stats, precision = reference(document, results)
        np.testing.assert_allclose(found, stats, rtol=0, atol=1e-9)
        for index in range(3):
            for area, name in enumerate(("ap", "aps", "apm", "apl")):
                expected = precision[:, :, index, area].mean()  # -1 where there is no true object.
                value = computed["per_class"][name][index]
                assert np.nan_to_num(value, nan=-1) == pytest.approx(expected, abs=1e-9)
        truth = hotcoco.COCO(document)
        theirs = hotcoco.COCOeval(truth, truth.load_res(results), "segm")
        theirs.run()
        np.testing.assert_allclose(found, theirs.stats[:6], rtol=0, atol=1e-9)
        sums += np.maximum(found, 0)
    assert (sums > 20).all()  # None of the measures was idle.


def test_a_perfect_oracle_has_an_ap_of_one():
    document, _ = random_coco(np.random.default_rng(1), 6)
    results = [{**a, "score": 0.5} for a in document["annotations"] if not a["iscrowd"]]
    computed = score(document, results).compute()
    assert computed["all"]["ap"] == 1.0 and computed["all"]["classes"] == 2
    # A class without a true object has no AP and lowers no mean.
    assert np.isnan(computed["per_class"]["ap"][2])
    assert score(document, []).compute()["all"]["ap"] == 0.0


@pytest.mark.parametrize("as_id", [int, str])
def test_equal_scores_are_ordered_by_number_as_pycocotools_does(as_id):
    mask = np.zeros(HW, bool)
    mask[:50, :50] = True
    right, wrong = (PredictedInstance(rle_encode(m), 0, 0.5) for m in (mask, ~mask))
    truth = [TrueInstance(rle_encode(mask), 0, 2500.0)]
    scores = InstanceScores(1)
    # As text, 1000 comes before 139.
    scores.add(as_id(1000), [wrong], truth)
    scores.add(as_id(139), [right], truth)
    assert scores.compute()["all"]["ap50"] == pytest.approx(51 / 101)


def test_only_the_hundred_best_of_an_image_and_class_are_looked_at():
    mask = np.zeros(HW, bool)
    mask[:50, :50] = True
    wrong = [PredictedInstance(rle_encode(~mask), 0, 0.9)] * 99
    right = PredictedInstance(rle_encode(mask), 0, 0.1)
    truth = [TrueInstance(rle_encode(mask), 0, 2500.0)]
    aps = []
    for predicted in ([*wrong, right], [*wrong, wrong[0], right]):
        scores = InstanceScores(1)
        scores.add(0, predicted, truth)
        aps.append(scores.compute()["all"]["ap"])
    assert aps == [pytest.approx(0.01), 0.0]


def test_a_crowd_swallows_predictions_and_is_never_missed():
    mask = np.ones(HW, bool)
    part = mask.copy()
    part[:50] = False
    scores = InstanceScores(1)
    crowd, true = TrueInstance(rle_encode(part), 0, 9.0, True), rle_encode(~part)
    predicted = [PredictedInstance(rle_encode(part), 0, s) for s in (0.9, 0.8)]
    scores.add(
        0, [*predicted, PredictedInstance(true, 0, 0.1)], [crowd, TrueInstance(true, 0, 9.0)]
    )
    assert scores.compute()["all"]["ap"] == pytest.approx(1.0)


def test_plain_run_lengths_count_like_compressed_ones():
    document, results = random_coco(np.random.default_rng(2), 12)
    expected = score(document, results).compute()["all"]
    assert expected["ap"] > 0
    for entry in (*document["annotations"], *results):
        pixels = rle_decode(entry["segmentation"]).ravel(order="F")
        places = np.flatnonzero(np.diff(pixels, prepend=False))
        runs = np.diff(places, prepend=0, append=pixels.size).tolist()
        entry["segmentation"] = {"size": list(HW), "counts": runs}
    assert score(document, results).compute()["all"] == pytest.approx(expected, abs=0, nan_ok=True)


def test_empty_runs_within_a_mask_do_not_end_the_count():
    # pycocotools stops where two masks have an empty run at one place: it finds an IoU of 1 here.
    truth = {"size": [4, 5], "counts": [2, 2, 0, 16]}
    guess = {"size": [4, 5], "counts": [2, 2, 0, 6, 10]}
    scores = InstanceScores(1)
    scores.add(0, [PredictedInstance(guess, 0, 1.0)], [TrueInstance(truth, 0, 18.0)])
    assert scores.compute()["all"]["ap50"] == 0.0


def test_parts_merge_and_go_through_json_in_any_order():
    rng = np.random.default_rng(3)
    document, results = random_coco(rng, 9)
    images = [image["id"] for image in document["images"]]
    whole = score(document, results).compute()
    total = InstanceScores(3)
    for image_id in images[::-1]:
        one = add(InstanceScores(3), document, results, [image_id])
        total.merge(InstanceScores.from_counters(3, json.loads(json.dumps(one.counters()))))
    # Scores are equal across images here: the order of images must not show.
    assert total.compute()["all"] == pytest.approx(whole["all"], abs=0, nan_ok=True)
    np.testing.assert_array_equal(total.compute()["per_class"]["ap"], whole["per_class"]["ap"])
    with pytest.raises(ValueError, match=f"Image {images[0]} has been counted"):
        total.merge(add(InstanceScores(3), document, results, images[:1]))
    with pytest.raises(ValueError, match="same number of classes"):
        total.merge(InstanceScores(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "score"),
        ({"category": 3}, r"Class 3 is not in 0\.\.2"),
        ({"category": -1}, "Class -1 is not in"),
        ({"rle": {"size": [2, 2], "counts": [1, 2]}}, "sum to 3"),
        ({"rle": {"size": [2, 2], "counts": [1, 3]}}, "different sizes"),
        ({"rle": {"size": [1 << 20, 2], "counts": "0"}}, "RLE size"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    mask = rle_encode(np.ones(HW, bool))
    predicted = PredictedInstance(**{"rle": mask, "category": 0, "score": 0.5, **change})
    scores = InstanceScores(3)
    with pytest.raises(ValueError, match=message):
        scores.add(0, [predicted], [TrueInstance(mask, 0, 1.0)])
    assert scores.counters() == []
    scores.add(0, [], [])
    with pytest.raises(ValueError, match="Image 0 has been counted"):
        scores.add(0, [], [])


def test_nothing_at_all_is_nan_and_prints_nothing(capsys):
    scores = InstanceScores(2)
    assert np.isnan(scores.compute()["all"]["ap"])
    scores.add("a", [], [])
    assert scores.compute()["all"]["classes"] == 0
    assert capsys.readouterr().out == ""


def test_without_pycocotools_there_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    mask = rle_encode(np.ones(HW, bool))
    with pytest.raises(ImportError, match="pip install pycocotools"):
        InstanceScores(1).add(0, [], [TrueInstance(mask, 0, 1.0)])
