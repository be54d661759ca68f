import json

import numpy as np
import pytest
from made_panoptic import CLASSES, quality_by_definition, random_image
from PIL import Image

from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.eval.files.panoptic_files import write_panoptic_json, write_panoptic_map
from uniovseg_jax.eval.metrics.panoptic import PanopticScores, TruthError, count_pairs

IS_THING = (True, True, False)


def test_a_thousand_random_cases_equal_the_definition_and_hotcoco(tmp_path):
    """Void, several crowds per class, areas that differ from the PNG, empty predictions.

    hotcoco follows panopticapi: no rule of either differs from the definition here, but that it
    gives -1 for a class or group that was not met.
    """
    hotcoco = pytest.importorskip("hotcoco.panoptic")
    rng = np.random.default_rng(0)
    (tmp_path / "gt").mkdir()
    matches = 0
    for _ in range(1000):
        images = [random_image(rng) for _ in range(rng.integers(1, 3))]
        scores = PanopticScores(CLASSES.is_thing)
        for image in images:
            scores.add(*image)
        computed, expected = scores.compute(), quality_by_definition(images)
        write_files(tmp_path, images)
        evaluation = hotcoco.PanopticEval(tmp_path / "gt.json", tmp_path / "pred.json")
        evaluation.evaluate()
        reference = evaluation.results()
        for name, values in computed["per_class"].items():
            np.testing.assert_allclose(values, expected[name], rtol=0, atol=1e-9)
            theirs = [reference["per_class"][info.id][name] for info in CLASSES.classes]
            np.testing.assert_allclose(np.nan_to_num(values, nan=-1), theirs, rtol=0, atol=1e-9)
        groups = {"all": slice(None), "things": CLASSES.is_thing, "stuff": ~CLASSES.is_thing}
        for group, chosen in groups.items():
            theirs = reference[group.title()]
            assert computed[group]["classes"] == theirs["n"]
            for name in ("pq", "sq", "rq"):
                if theirs["n"]:
                    mean = np.nanmean(expected[name][chosen])
                    assert computed[group][name] == pytest.approx(mean, abs=1e-9)
                    assert computed[group][name] == pytest.approx(theirs[name], abs=1e-9)
                else:
                    assert np.isnan(computed[group][name])
        matches += scores.true_positive.sum()
    assert matches > 1000


def write_files(folder, images):
    """Writes truth and prediction as panopticapi reads them."""
    truths, guesses = [], []
    for number, (predicted, guessed, target, true) in enumerate(images):
        name = f"{number}.png"
        guesses.append(
            write_panoptic_map(folder / "pred", number, name, predicted, guessed, CLASSES)
        )
        # Not with the writer, which refuses a true segment without a pixel.
        rgb = np.stack([target & 255, target >> 8 & 255, target >> 16], -1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / "gt" / name)
        infos = [
            {
                "id": segment.id,
                "category_id": CLASSES.classes[segment.category].id,
                "area": segment.area,
                "iscrowd": int(segment.iscrowd),
                "bbox": [0, 0, 1, 1],
            }
            for segment in true
        ]
        truths.append({"image_id": number, "file_name": name, "segments_info": infos})
    write_panoptic_json(folder / "gt.json", truths, CLASSES)
    write_panoptic_json(folder / "pred.json", guesses, CLASSES)


def test_of_several_crowds_of_a_class_the_last_one_counts():
    target, predicted = np.array([[5, 5, 6, 6, 6, 5]]), np.array([[1, 1, 1, 2, 2, 2]])
    scores = PanopticScores(IS_THING)
    crowds = [Segment(5, 0, iscrowd=True), Segment(6, 0, iscrowd=True)]
    scores.add(predicted, [Segment(1, 0), Segment(2, 0)], target, crowds)
    # Segment 1 lies on both, for the most part on the first, segment 2 on the last.
    assert scores.false_positive[0] == 1


def test_void_makes_pq_asymmetric():
    full, part = np.array([[1, 1, 1, 2]]), np.array([[1, 1, 0, 0]])
    one, two = [Segment(1, 0)], [Segment(1, 0), Segment(2, 0)]
    there, back = PanopticScores(IS_THING), PanopticScores(IS_THING)
    there.add(full, two, part, one)
    back.add(part, one, full, two)
    # Void of the truth is forgiven to predictions, void of a prediction is not to itself.
    assert there.compute()["all"]["pq"] == 1.0
    assert back.compute()["all"]["pq"] == pytest.approx((2 / 3) / 1.5)


def test_mean_pq_is_not_mean_sq_times_mean_rq_and_sq_of_no_match_is_zero():
    target, predicted = np.array([[1, 1, 1, 2, 2, 2]]), np.array([[1, 1, 1, 0, 0, 3]])
    scores = PanopticScores(IS_THING)
    truths = [Segment(1, 0), Segment(2, 1)]
    scores.add(predicted, [Segment(1, 0), Segment(3, 1)], target, truths)
    result = scores.compute()["all"]
    assert (result["pq"], result["sq"], result["rq"]) == (0.5, 0.5, 0.5)
    assert result["pq"] != result["sq"] * result["rq"]


def test_unassigned_pixels_are_void_and_cost_only_their_overlap():
    target, predicted = np.array([[1, 1, 1, 2]]), np.array([[1, 1, 0, 0]])
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 0)], target, [Segment(1, 0), Segment(2, 2)])
    assert scores.iou_sum[0] == pytest.approx(2 / 3)
    assert scores.false_positive.sum() == 0 and scores.false_negative.tolist() == [0, 0, 1]


def test_an_area_below_the_pixels_takes_pq_above_one_hundred_and_is_counted():
    target = predicted = np.array([[1, 1, 1, 1]])
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 2)], target, [Segment(1, 2, area=3)])
    assert scores.compute()["all"]["pq"] == pytest.approx(4 / 3)
    assert scores.understated == 1
    assert scores.notes()[0].startswith("1 segments of the truth state a smaller area")
    assert PanopticScores(IS_THING).notes() == ()
    with pytest.raises(TruthError, match="states an area of 0"):
        scores.add(predicted, [Segment(1, 2)], target, [Segment(1, 2, area=0)])


def test_unlisted_true_ids_are_neither_void_nor_segments():
    target, predicted = np.array([[9, 9, 9, 0]]), np.array([[1, 1, 1, 1]])
    scores = PanopticScores(IS_THING)
    scores.add(predicted, [Segment(1, 0)], target, [])
    assert scores.false_positive.tolist() == [1, 0, 0] and scores.false_negative.sum() == 0


def test_segments_listed_twice_are_refused():
    scores, ids = PanopticScores(IS_THING), np.array([[1, 1]])
    for wrong in ([Segment(1, 0), Segment(1, 1)], [Segment(1, 0), Segment(0, 1)]):
        with pytest.raises(ValueError, match="names an id twice, or 0"):
            scores.add(ids, wrong, ids, [Segment(1, 0)])
        with pytest.raises(ValueError, match="names an id twice, or 0"):
            scores.add(ids, [Segment(1, 0)], ids, wrong)


@pytest.mark.parametrize("cell", [1, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint32])
def test_pairs_of_ids_are_counted_exactly_in_noise_and_in_patches(cell, dtype):
    rng = np.random.default_rng(cell)
    top = min(np.iinfo(dtype).max, 2**32 - 1)
    values = np.array([0, 1, top // 2, top], dtype)
    target, predicted = (
        np.kron(values[rng.integers(0, 4, (6, 7))], np.ones((cell, cell), dtype)) for _ in range(2)
    )
    pairs = count_pairs(target, predicted)
    assert sum(pairs.values()) == target.size
    for (t, p), count in pairs.items():
        assert count == ((target == t) & (predicted == p)).sum() > 0


def test_counters_go_through_json_and_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    whole, total = PanopticScores(CLASSES.is_thing), PanopticScores(CLASSES.is_thing)
    for _ in range(20):
        image = random_image(rng)
        whole.add(*image)
        one = PanopticScores(CLASSES.is_thing)
        one.add(*image)
        stored = json.loads(json.dumps(one.counters()))
        total.merge(PanopticScores.from_counters(CLASSES.is_thing, stored))
    assert total.understated == whole.understated
    for name in ("true_positive", "false_positive", "false_negative"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))
    np.testing.assert_allclose(total.iou_sum, whole.iou_sum, rtol=1e-12)
    with pytest.raises(ValueError, match="not those of 2 classes"):
        PanopticScores.from_counters([True, False], whole.counters())
    with pytest.raises(ValueError, match="same classes"):
        whole.merge(PanopticScores([True, False]))


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
