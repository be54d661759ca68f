"""scripts/score.py on COCO results: the last line, and what it refuses."""

import copy

import numpy as np
import pytest
from made_objects import HW, random_coco
from score_calls import (
    CROWD,
    RESULT,
    TRUTH,
    complaint,
    last_line,
    object_flags,
    write_json,
)

from uniovseg_jax.eval.metrics.instance import MEASURES
from uniovseg_jax.masks import rle_area, rle_decode, rle_encode


def test_instance_scores_are_those_of_pycocotools(script, tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    document, results = random_coco(np.random.default_rng(5), 20)
    crowd = next(a for a in document["annotations"] if a["iscrowd"])
    true = next(a for a in document["annotations"] if not a["iscrowd"])
    # As the official files have them: crowds as plain run lengths, others as polygons.
    pixels = rle_decode(crowd["segmentation"]).ravel(order="F")
    places = np.flatnonzero(np.diff(pixels, prepend=False))
    runs = np.diff(places, prepend=0, append=pixels.size).tolist()
    crowd["segmentation"] = {"size": list(HW), "counts": runs}
    true["segmentation"] = [[10, 10, 60.5, 12, 40, 80], [70, 70, 90, 70, 90, 95.5, 70, 95]]
    found, printed = last_line(
        script, capsys, *object_flags(tmp_path, "instance", document, results)
    )
    truth = coco.COCO(str(tmp_path / "gt.json"))
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(found["all"]) == [*MEASURES, "n"]
    stats = [100 * value for value in evaluation.stats[:6]]
    assert [found["all"][name] for name in MEASURES] == pytest.approx(stats, abs=1e-9)
    assert min(stats[:5]) > 0 and found["all"]["n"] == 2
    assert "| 20 | class 20 | - | - | - | - | - | - |" in printed.out


def test_an_object_without_a_usable_polygon_is_a_miss_as_for_pycocotools(script, tmp_path, capsys):
    # pycocotools fails on such lists. Given the same objects as empty run lengths, it keeps them,
    # in the size that their area states, and nothing finds them.
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    document, results = random_coco(np.random.default_rng(5), 20)
    whole, _ = last_line(script, capsys, *object_flags(tmp_path, "instance", document, results))
    lost = [a for a in document["annotations"] if not a["iscrowd"]][::4]
    for number, annotation in enumerate(lost):
        annotation["segmentation"] = [[], [[1, 2, 3, 4]], [[1, 2], []]][number % 3]
    found, _ = last_line(script, capsys, *object_flags(tmp_path, "instance", document, results))
    for annotation in lost:
        annotation["segmentation"] = rle_encode(np.zeros(HW, bool))
    truth = coco.COCO(str(write_json(tmp_path / "empty.json", document)))
    evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(results)), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    stats = [100 * value for value in evaluation.stats[:6]]
    assert [found["all"][name] for name in MEASURES] == pytest.approx(stats, abs=1e-9)
    assert 0 < found["all"]["ap"] < whole["all"]["ap"]


def test_the_truth_as_results_scores_exactly_one_hundred(script, tmp_path, capsys):
    document, _ = random_coco(np.random.default_rng(5), 30)
    for annotation in document["annotations"]:
        annotation.update(iscrowd=0)
    keys = "image_id", "category_id", "segmentation"
    results = [{**{k: a[k] for k in keys}, "score": 1.0} for a in document["annotations"]]
    found, _ = last_line(script, capsys, *object_flags(tmp_path, "instance", document, results))
    assert [found["all"][name] for name in ("ap", "ap50", "ap75")] == [100.0] * 3
    found, _ = last_line(script, capsys, *object_flags(tmp_path, "instance", TRUTH, [RESULT]))
    assert found["all"]["ap"] == 100.0  # pycocotools divides by a little more than one.


def test_no_results_are_an_ap_of_zero(script, tmp_path, capsys):
    document, _ = random_coco(np.random.default_rng(5), 8)
    found, _ = last_line(script, capsys, *object_flags(tmp_path, "instance", document, []))
    assert found["all"]["ap"] == 0.0


def test_nulls_and_whole_floats_of_other_writers_are_understood(script, tmp_path, capsys):
    document, results = random_coco(np.random.default_rng(5), 20)
    for annotation in document["annotations"]:
        annotation.update(area=float(rle_area(annotation["segmentation"])))
    plain = object_flags(tmp_path, "instance", document, results)
    expected, _ = last_line(script, capsys, *plain)
    for image in document["images"]:
        image.update(height=float(image["height"]), width=float(image["width"]))
    for annotation in document["annotations"]:
        annotation["area"] = None
        annotation["iscrowd"] = annotation["iscrowd"] or None
    for category in document["categories"]:
        category["isthing"] = None
    odd = object_flags(tmp_path, "instance", document, results)
    assert last_line(script, capsys, *odd)[0] == expected


@pytest.mark.parametrize(
    ("truth", "change", "message"),
    [
        ({}, {"image_id": 2}, "[0] is about image 2, which the truth does not list"),
        ({}, {"image_id": "1"}, "[0] is about image '1', which the truth does not list"),
        ({}, {"category_id": 4}, "The category_id 4 is none of the 3 categories"),
        ({}, {"score": "high"}, "'score' is high, expected a finite number"),
        ({}, {"segmentation": [[1, 1, 5, 5, 1, 5]]}, "run lengths, not polygons"),
        ({}, {"segmentation": {"size": [2, 2], "counts": [4]}}, "The mask has size (2, 2)"),
        ({}, {"segmentation": {"size": list(HW), "counts": "~~"}}, "[0]: RLE"),
        ({"category_id": 4}, {}, "annotations[0]: The category_id 4"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, {}, "annotations[0]: A polygon must be"),
        ({"iscrowd": 3}, {}, "annotations[0]: 'iscrowd' is 3"),
        ({"area": -4}, {}, "annotations[0]: 'area' is -4, expected a number of pixels"),
        ({"image_id": 3}, {}, "annotations[0] is about image 3"),
    ],
)
def test_objects_that_do_not_fit_are_one_sentence(script, tmp_path, capsys, truth, change, message):
    document = {**TRUTH, "annotations": [{**TRUTH["annotations"][0], **truth}]}
    arguments = object_flags(tmp_path, "instance", document, [{**RESULT, **change}])
    assert message in complaint(script, capsys, *arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, 'expected an object with the list "images"'),
        ({"annotations": {}}, 'expected an object with the list "annotations"'),
        ({"images": [{"id": 1, "height": 5}]}, "images[0]: 'width' is None"),
        ({"images": [{"id": 1, "height": 5.5, "width": 5}]}, "images[0]: 'height' is 5.5"),
        ({"images": [{"id": 1, "height": 65536, "width": 65536}]}, "pixels"),
        ({"images": TRUTH["images"] * 2}, "two images of id 1"),
        ({"categories": []}, 'gt.json has an empty list "categories"; expected at least one.'),
        ({"categories": None}, 'expected an object with the list "categories"'),
    ],
)
def test_truth_of_another_form_is_one_sentence(script, tmp_path, capsys, change, message):
    arguments = object_flags(tmp_path, "instance", {**TRUTH, **change}, [RESULT])
    assert message in complaint(script, capsys, *arguments)
    without = {key: value for key, value in TRUTH.items() if key != "categories"}
    arguments = object_flags(tmp_path, "instance", without, [RESULT])
    assert 'the list "categories"' in complaint(script, capsys, *arguments)
    arguments = object_flags(tmp_path, "instance", TRUTH, {"annotations": []})
    assert "expected a list of results" in complaint(script, capsys, *arguments)


@pytest.mark.parametrize("more", [("instance",), ("promptable", "--mode=box")], ids=lambda m: m[0])
@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({**TRUTH, "images": []}, 'gt.json has an empty list "images"; expected at least one.'),
        ({**TRUTH, "annotations": []}, 'gt.json has an empty list "annotations"; expected at'),
        (CROWD, "There is nothing to score: "),
    ],
)
def test_a_truth_without_objects_is_an_error(script, tmp_path, capsys, more, truth, message):
    task, *flags = more
    assert message in complaint(script, capsys, *object_flags(tmp_path, task, truth, [], *flags))


def test_numbers_that_no_float_holds_are_one_sentence(script, tmp_path, capsys):
    annotation = {**TRUTH["annotations"][0], "area": 10**400}
    for truth, change, message in (
        ({**TRUTH, "annotations": [annotation]}, {}, "annotations[0]: 'area' is 1000"),
        (TRUTH, {"score": -(10**400)}, "[0]: 'score' is -1000"),
    ):
        arguments = object_flags(tmp_path, "instance", truth, [{**RESULT, **change}])
        assert message in complaint(script, capsys, *arguments)
