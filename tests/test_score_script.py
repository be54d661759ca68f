"""scripts/score.py by its command line: the last line, and what it refuses."""

import copy
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from made_objects import CATEGORIES, HW, random_coco, random_mask
from made_panoptic import CLASSES, quality_by_definition, random_image
from PIL import Image

from uniovseg_jax.eval.instance import MEASURES
from uniovseg_jax.eval.panoptic import Segment
from uniovseg_jax.eval.panoptic_files import write_panoptic_json, write_panoptic_map
from uniovseg_jax.eval.promptable import (
    GridScorer,
    PromptableScores,
    TrueMasks,
)
from uniovseg_jax.eval.prompted import image_grid
from uniovseg_jax.eval.semantic import SemanticScores
from uniovseg_jax.masks import rle_area, rle_decode, rle_encode
from uniovseg_jax.packed_masks import PackedMasks

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("score")


def call(script, *arguments):
    """Returns the exit code."""
    with flagsaver.flagsaver():
        try:
            return script.main(script.parse_flags(["score.py", *arguments]))
        except SystemExit as stop:
            return stop.code
        finally:
            flags.FLAGS.unparse_flags()


def last_line(script, capsys, *arguments):
    code, printed = call(script, *arguments), capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out.splitlines()[-1]), printed


def complaint(script, capsys, *arguments):
    code, printed = call(script, *arguments), capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err.splitlines()[-1]


def write_json(path, document):
    path.write_text(json.dumps(document))
    return path


# --- Panoptic ----------------------------------------------------------------------------------


def write_maps(folder, name, maps):
    (folder / name).mkdir(parents=True)
    entries = [
        write_panoptic_map(folder / name, image_id, f"{image_id}.png", ids, segments, CLASSES)
        for image_id, (ids, segments) in maps.items()
    ]
    write_panoptic_json(folder / f"{name}.json", entries, CLASSES)


@pytest.fixture
def panoptic(tmp_path):
    rng = np.random.default_rng(0)
    images = {}
    while len(images) < 4:
        predicted, guesses, target, truths = random_image(rng)
        # The writer wants every true segment to have a pixel and the reverse.
        target[~np.isin(target, [t.id for t in truths])] = 0
        truths = [t for t in truths if (target == t.id).any()]
        images[f"town_{len(images)}"] = predicted, guesses, target, truths
    write_maps(tmp_path, "gt", {name: image[2:] for name, image in images.items()})
    write_maps(tmp_path, "pred", {name: image[:2] for name, image in images.items()})
    return tmp_path, images


def panoptic_flags(folder):
    return (
        "--task=panoptic",
        f"--gt_json={folder / 'gt.json'}",
        f"--gt_dir={folder / 'gt'}",
        f"--pred_json={folder / 'pred.json'}",
        f"--pred_dir={folder / 'pred'}",
    )


def test_panoptic_scores_are_those_of_the_definition_in_percent(script, panoptic, capsys):
    folder, images = panoptic
    # Predictions may be nothing but their annotations, of more images than are scored.
    entries = json.loads((folder / "pred.json").read_text())["annotations"]
    write_json(folder / "pred.json", {"annotations": [*entries, {"image_id": 99}]})
    found, printed = last_line(script, capsys, *panoptic_flags(folder))
    expected = quality_by_definition(images.values())
    groups = {"all": slice(None), "things": CLASSES.is_thing, "stuff": ~CLASSES.is_thing}
    assert list(found) == list(groups)
    for group, chosen in groups.items():
        assert set(found[group]) == {"pq", "sq", "rq", "n"}
        assert found[group]["n"] == np.isfinite(expected["pq"][chosen]).sum()
        for name, values in expected.items():
            mean = np.nanmean(values[chosen])
            assert found[group][name] == pytest.approx(100 * mean, abs=1e-9)
    rows = [line for line in printed.out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(CLASSES)
    pq = expected["pq"][0]
    assert rows[2].startswith(f"| 1 | class 1 | thing | {100 * pq:.2f} |")
    assert "4/4" in printed.err


def test_folders_are_by_default_beside_the_json(script, panoptic, capsys):
    named, _ = last_line(script, capsys, *panoptic_flags(panoptic[0]))
    default = [flag for flag in panoptic_flags(panoptic[0]) if "_dir" not in flag]
    assert last_line(script, capsys, *default)[0] == named


def test_the_truth_as_prediction_scores_one_hundred(script, tmp_path, capsys):
    ids = np.array([[1, 1, 2], [0, 3, 3]], np.int32)
    segments = (Segment(1, 0), Segment(2, 4), Segment(3, 1))
    write_maps(tmp_path, "gt", {1: (ids, segments)})
    write_maps(tmp_path, "pred", {1: (ids, segments)})
    found, _ = last_line(script, capsys, *panoptic_flags(tmp_path))
    perfect = {"pq": 100.0, "sq": 100.0, "rq": 100.0}
    assert found["all"] == {**perfect, "n": 3} and found["stuff"] == {**perfect, "n": 1}


def test_a_group_without_a_class_is_null(script, tmp_path, capsys):
    ids = np.ones((2, 2), np.int32)
    for name in ("gt", "pred"):
        write_maps(tmp_path, name, {1: (ids, (Segment(1, 0),))})
    found, _ = last_line(script, capsys, *panoptic_flags(tmp_path))
    assert found["stuff"] == {"pq": None, "sq": None, "rq": None, "n": 0}


def test_indices_in_place_of_category_ids_are_refused(script, panoptic, capsys):
    folder, _ = panoptic
    document = json.loads((folder / "pred.json").read_text())
    index = {info.id: place for place, info in enumerate(CLASSES.classes)}
    for entry in document["annotations"]:
        for info in entry["segments_info"]:
            info["category_id"] = index[info["category_id"]]
    write_json(folder / "pred.json", document)
    assert "none of the 5 categories" in complaint(script, capsys, *panoptic_flags(folder))


def test_classes_of_one_name_are_told_apart_by_their_ids(script, panoptic, capsys):
    folder, _ = panoptic
    before, _ = last_line(script, capsys, *panoptic_flags(folder))
    document = json.loads((folder / "gt.json").read_text())
    for category in document["categories"]:
        category.update(name="screen", supercategory="thing")
    # Nor does it matter in which order they are listed.
    document["categories"].reverse()
    write_json(folder / "gt.json", document)
    after, printed = last_line(script, capsys, *panoptic_flags(folder))
    assert after == before
    assert printed.out.count("| screen |") == len(CLASSES)


def test_faults_of_the_truth_are_those_of_its_file(script, tmp_path, capsys):
    ids = np.ones((2, 2), np.int32)
    for name in ("gt", "pred"):
        write_maps(tmp_path, name, {1: (ids, (Segment(1, 0),))})
    document = json.loads((tmp_path / "gt.json").read_text())
    (info,) = document["annotations"][0]["segments_info"]
    where = f"{tmp_path / 'gt.json'}, image 1: "
    for infos, message in (
        ([info, info], "segment 1 is listed twice"),
        ([{**info, "category_id": 77}, info], "segment 1 is listed twice"),
        ([{**info, "area": 0}], "Segment 1 of the ground truth states an area of 0"),
        ([{**info, "area": -4}], "'area' is -4, expected a number of pixels, at least 0"),
    ):
        document["annotations"][0]["segments_info"] = infos
        write_json(tmp_path / "gt.json", document)
        assert complaint(script, capsys, *panoptic_flags(tmp_path)).startswith(where + message)


def test_areas_below_the_pixels_are_told(script, tmp_path, capsys):
    ids = np.ones((2, 2), np.int32)
    write_maps(tmp_path, "gt", {1: (ids, (Segment(1, 0, area=3),))})
    write_maps(tmp_path, "pred", {1: (ids, (Segment(1, 0),))})
    found, printed = last_line(script, capsys, *panoptic_flags(tmp_path))
    assert found["all"]["pq"] == pytest.approx(400 / 3)
    assert "1 segments of the truth state a smaller area" in printed.err


def test_true_segments_of_no_listed_class_are_of_no_class_but_not_void(script, tmp_path, capsys):
    # panopticapi looks classes up only where it takes means: such a segment is missed by nobody,
    # and two segments on it are wrong.
    ids = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.int32)
    write_maps(tmp_path, "gt", {1: (ids, (Segment(1, 0, area=4.5), Segment(2, 1)))})
    write_maps(tmp_path, "pred", {1: (ids, (Segment(1, 0), Segment(2, 1)))})
    document = json.loads((tmp_path / "gt.json").read_text())
    document["annotations"][0]["segments_info"][1]["category_id"] = 77
    write_json(tmp_path / "gt.json", document)
    found, printed = last_line(script, capsys, *panoptic_flags(tmp_path))
    assert found["all"] == {
        "pq": pytest.approx(100 * 4 / 4.5 / 2),
        "sq": pytest.approx(100 * 4 / 4.5 / 2),
        "rq": 50.0,
        "n": 2,
    }
    assert "1 segments of the truth have a class that is not listed" in printed.err


def _drop_prediction(folder):
    document = json.loads((folder / "pred.json").read_text())
    write_json(folder / "pred.json", {"annotations": document["annotations"][1:]})


def _unlist(folder):
    document = json.loads((folder / "pred.json").read_text())
    document["annotations"][1]["segments_info"].pop()
    write_json(folder / "pred.json", document)


def _list_more(folder):
    document = json.loads((folder / "pred.json").read_text())
    document["annotations"][1]["segments_info"].append({"id": 5, "category_id": 1})
    write_json(folder / "pred.json", document)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_drop_prediction, "pred.json has no entry for image town_0"),
        (_unlist, "town_1.png: Predicted segments ["),
        (_list_more, "town_1.png: Predicted segments [5] are not in both"),
        (lambda f: (f / "pred" / "town_1.png").unlink(), "town_1.png, the map of image town_1"),
        (lambda f: (f / "gt" / "town_1.png").write_bytes(b"PNG"), "cannot be read as an image"),
        (
            lambda f: Image.new("RGB", (3, 3)).save(f / "gt" / "town_2.png"),
            "predictions are scored at the size of the ground truth",
        ),
        (lambda f: (f / "gt.json").unlink(), "gt.json cannot be read"),
        (lambda f: (f / "pred.json").write_text("[1]"), 'the list "annotations"'),
    ],
)
def test_panoptic_files_that_do_not_fit_are_one_sentence(script, panoptic, capsys, spoil, message):
    spoil(panoptic[0])
    assert message in complaint(script, capsys, *panoptic_flags(panoptic[0]))


# --- Semantic ----------------------------------------------------------------------------------


def semantic_flags(folder, *more):
    return ("--task=semantic", f"--gt_dir={folder / 'gt'}", f"--pred_dir={folder / 'pred'}", *more)


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


@pytest.mark.parametrize(
    ("classes", "ignore", "kind", "suffixes"),
    [(20, 255, np.uint8, (".png", ".png")), (847, 65535, np.uint16, (".tif", ".png"))],
)
def test_semantic_scores_of_8_and_16_bits(
    script, tmp_path, capsys, classes, ignore, kind, suffixes
):
    rng, scores = np.random.default_rng(0), SemanticScores(classes)
    for name in ("a", "town/b", "town/c"):
        target = rng.integers(0, classes - 1, (8, 9))
        predicted = np.where(rng.random((8, 9)) < 0.5, target, rng.integers(0, classes, (8, 9)))
        target[rng.random((8, 9)) < 0.2] = ignore
        scores.add(predicted, np.where(target == ignore, -1, target))
        save(tmp_path / "gt" / (name + suffixes[0]), target.astype(kind))
        save(tmp_path / "pred" / (name + suffixes[1]), predicted.astype(kind))
    (tmp_path / "gt" / "readme.txt").write_text("not a map")
    arguments = (f"--num_classes={classes}", f"--ignore={ignore}")
    found, printed = last_line(script, capsys, *semantic_flags(tmp_path, *arguments))
    expected = scores.compute()
    names = {"miou": "miou", "fwiou": "fwiou", "macc": "mean_accuracy", "pacc": "pixel_accuracy"}
    assert set(found) == {"all"} and set(found["all"]) == {*names, "n"}
    for name, ours in names.items():
        assert found["all"][name] == pytest.approx(100 * expected[ours], abs=1e-9)
    assert found["all"]["n"] == np.isfinite(expected["iou"]).sum() < classes
    # The last class never occurs: no IoU.
    assert printed.out.splitlines()[-2] == f"| {classes - 1} | - | - | 0 |"


def test_palette_files_hold_indices_and_predicted_void_is_wrong(script, tmp_path, capsys):
    target = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8))
    target.putpalette([(7 * n) % 256 for n in range(768)])
    (tmp_path / "gt").mkdir()
    target.save(tmp_path / "gt" / "a.png")
    save(tmp_path / "pred" / "a.TIFF", np.array([[0, 1, 255, 0]], np.uint8))
    arguments = semantic_flags(tmp_path, "--num_classes=3", "--ignore=255")
    found, _ = last_line(script, capsys, *arguments)
    assert found["all"]["pacc"] == pytest.approx(200 / 3) and found["all"]["n"] == 3


def test_an_ignored_class_is_not_scored_and_told(script, tmp_path, capsys):
    save(tmp_path / "gt" / "a.png", np.array([[0, 1, 2]], np.uint8))
    save(tmp_path / "pred" / "a.png", np.array([[1, 1, 1]], np.uint8))
    arguments = semantic_flags(tmp_path, "--num_classes=3", "--ignore=0,255")
    found, printed = last_line(script, capsys, *arguments)
    assert found["all"]["n"] == 2 and found["all"]["miou"] == pytest.approx(25.0)
    assert "Class 0 is ignored" in printed.err


def test_ignore_gathers_and_negative_labels_need_signed_maps(script, tmp_path, capsys):
    target, predicted = np.array([[0, 1, 255, 7]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8)
    save(tmp_path / "gt" / "a.png", target)
    save(tmp_path / "pred" / "a.png", predicted)
    arguments = semantic_flags(tmp_path, "--num_classes=2", "--ignore=255,-1", "--ignore=7")
    found, printed = last_line(script, capsys, *arguments)
    assert found["all"]["pacc"] == 50.0 and "is ignored" not in printed.err
    (tmp_path / "gt" / "a.png").unlink()
    save(tmp_path / "gt" / "a.tif", np.array([[0, 1, -1, -1]], np.int32))
    assert last_line(script, capsys, *arguments)[0] == found
    without = semantic_flags(tmp_path, "--num_classes=2", "--ignore=255,-2")
    assert "a.tif has the label -1, which is neither" in complaint(script, capsys, *without)


def test_suffixes_choose_the_files_and_are_no_part_of_the_name(script, tmp_path, capsys):
    save(tmp_path / "gt" / "ulm" / "ulm_0_gtFine_labelTrainIds.png", np.array([[0, 1]], np.uint8))
    save(tmp_path / "gt" / "ulm" / "ulm_0_gtFine_color.png", np.zeros((1, 2, 3), np.uint8))
    save(tmp_path / "gt" / "ulm" / "ulm_0_gtFine_labelIds.png", np.array([[9, 9]], np.uint8))
    save(tmp_path / "pred" / "ulm" / "ulm_0_leftImg8bit.png", np.array([[0, 0]], np.uint8))
    suffixes = "--gt_suffix=_gtFine_labelTrainIds.png", "--pred_suffix=_leftImg8bit.png"
    arguments = semantic_flags(tmp_path, "--num_classes=2", *suffixes)
    assert last_line(script, capsys, *arguments)[0]["all"]["pacc"] == 50.0
    for suffix, message in (
        ("_none.png", "holds no label map; expected files *_none.png"),
        ("_labelTrainIds", "The suffix _labelTrainIds must end with one of .png"),
    ):
        assert message in complaint(script, capsys, *arguments, f"--gt_suffix={suffix}")
    assert "has a label map" in complaint(script, capsys, *arguments, "--gt_suffix=_labelIds.png")


def test_a_folder_named_like_a_map_is_none_and_a_dead_link_is_one(script, tmp_path, capsys):
    for name in ("gt", "pred"):
        save(tmp_path / name / "a.png", np.array([[0]], np.uint8))
        (tmp_path / name / "b.png").mkdir()
    arguments = semantic_flags(tmp_path, "--num_classes=2")
    assert last_line(script, capsys, *arguments)[0]["all"]["pacc"] == 100.0
    for name in ("gt", "pred"):
        (tmp_path / name / "c.png").symlink_to("nowhere.png")
    assert "c.png" in complaint(script, capsys, *arguments)


def test_a_bad_label_is_reported_under_its_own_file(script, tmp_path, capsys):
    save(tmp_path / "gt" / "a.png", np.array([[5]], np.uint8))
    save(tmp_path / "pred" / "a.png", np.array([[0]], np.uint8))
    message = complaint(script, capsys, *semantic_flags(tmp_path, "--num_classes=2"))
    assert message.startswith(f"{tmp_path / 'gt' / 'a.png'} has the label 5")
    assert "pred" not in message


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pred/b.png": [[0]]}, "has a label map b and"),
        ({"gt/b.png": [[0]]}, "has a label map b and"),
        ({"gt/a.tif": [[0]]}, "has two label maps a"),
        ({"gt/a.png": [[0, 1]]}, "predictions are scored at the size of the ground truth"),
        ({"gt/a.png": [[7]]}, "a.png has the label 7, which is neither"),
        ({"pred/a.png": [[4]]}, "a.png has the label 4, which is neither"),
        ({"pred/a.png": [[[1, 2, 3]]]}, "is no label map: expected a PNG or TIFF"),
    ],
)
def test_label_maps_that_do_not_fit_are_one_sentence(script, tmp_path, capsys, files, message):
    for name, labels in {"gt/a.png": [[0]], "pred/a.png": [[0]], **files}.items():
        save(tmp_path / name, np.array(labels, np.uint8))
    arguments = semantic_flags(tmp_path, "--num_classes=4", "--ignore=255")
    assert message in complaint(script, capsys, *arguments)


# --- Instance ----------------------------------------------------------------------------------


def object_flags(folder, task, document, results, *more):
    truth = write_json(folder / "gt.json", document)
    found = write_json(folder / "results.json", results)
    return (f"--task={task}", f"--gt_json={truth}", f"--pred_json={found}", *more)


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


MASK = rle_encode(np.ones(HW, bool))
TRUTH = {
    "images": [{"id": 1, "height": HW[0], "width": HW[1]}],
    "annotations": [
        {"id": 4, "image_id": 1, "category_id": 3, "segmentation": MASK, "area": 9, "iscrowd": 0}
    ],
    "categories": CATEGORIES,
}
RESULT = {"image_id": 1, "category_id": 3, "segmentation": MASK, "score": 0.5, "prompt": 4}


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


# --- Promptable --------------------------------------------------------------------------------


def _iou(a, b):
    return (a & b).sum() / (a | b).sum()


@pytest.fixture
def prompted():
    """Two images of three and one masks, a crowd, and answers of which one is missing."""
    rng = np.random.default_rng(7)
    masks = {10: random_mask(rng), 11: random_mask(rng), 12: random_mask(rng), 20: random_mask(rng)}
    image_of = {10: 1, 11: 1, 12: 1, 20: 2, 30: 2}
    annotations = [
        {"id": number, "image_id": image_of[number], "segmentation": rle_encode(mask)}
        for number, mask in masks.items()
    ]
    crowd = {"id": 30, "image_id": 2, "iscrowd": 1, "segmentation": rle_encode(masks[10])}
    images = [{"id": number, "height": HW[0], "width": HW[1]} for number in (1, 2, 3)]
    results = []
    for number in (10, 11, 20, 30):
        for _ in range(3):
            shift = rng.integers(-9, 10, 2)
            mask = np.roll(masks.get(number, masks[10]), shift, (0, 1))
            entry = {"image_id": image_of[number], "segmentation": rle_encode(mask)}
            results.append({**entry, "prompt": number, "score": float(rng.random())})
    return {"images": images, "annotations": [*annotations, crowd]}, results, masks


def test_answers_to_own_prompts_by_annotation_id(script, tmp_path, capsys, prompted):
    document, results, masks = prompted
    best, ranked = [], []
    for number, mask in masks.items():
        own = [r for r in results if r["prompt"] == number]
        ious = [_iou(mask, rle_decode(r["segmentation"])) for r in own]
        best.append(max(ious, default=0.0))
        scores = [r["score"] for r in own]
        ranked.append(ious[int(np.argmax(scores))] if own else 0.0)
    for mode in ("center", "random", "box"):
        arguments = object_flags(tmp_path, "promptable", document, results, f"--mode={mode}")
        found, printed = last_line(script, capsys, *arguments)
        assert list(found) == ([mode] if mode == "box" else [mode, f"{mode}_ranked"])
        for name, values in zip(found, (best, ranked), strict=False):
            assert found[name]["iou"] == pytest.approx(100 * np.mean(values), abs=1e-9)
            means = [np.mean(values[:3]), values[3]]
            assert found[name]["iou_of_images"] == pytest.approx(100 * np.mean(means), abs=1e-9)
            # A crowd is no true mask, and nothing answers annotation 12.
            assert (found[name]["masks"], found[name]["images"]) == (4, 2)
            assert found[name]["unanswered"] == 1
        assert f"| {mode} | {found[mode]['iou']:.2f} |" in printed.out
    assert np.mean(ranked) < np.mean(best)
    unscored = [{k: v for k, v in r.items() if k != "score"} for r in results]
    arguments = object_flags(tmp_path, "promptable", document, unscored, "--mode=center")
    assert list(last_line(script, capsys, *arguments)[0]) == ["center"]


def test_grid_masks_are_offered_to_every_true_mask(script, tmp_path, capsys, prompted):
    document, results, masks = prompted
    plain = [{k: r[k] for k in ("image_id", "segmentation")} for r in results]
    found, _ = last_line(
        script,
        capsys,
        *object_flags(tmp_path, "promptable", document, plain, "--mode=grid_any"),
    )
    image_of = {10: 1, 11: 1, 12: 1, 20: 2}
    best = [
        max(
            _iou(mask, rle_decode(r["segmentation"]))
            for r in results
            if r["image_id"] == image_of[n]
        )
        for n, mask in masks.items()
    ]
    assert found["grid_any"]["iou"] == pytest.approx(100 * np.mean(best), abs=1e-9)
    assert found["grid_any"]["unanswered"] == 0
    least = min(mask.mean() for mask in masks.values())
    arguments = object_flags(tmp_path, "promptable", document, plain, "--mode=grid_any")
    found, _ = last_line(script, capsys, *arguments, f"--min_area={least * 1.01}")
    assert found["grid_any"]["masks"] == 3


def test_annotations_without_a_usable_polygon_are_no_true_masks(script, tmp_path, capsys, prompted):
    document, results, _ = prompted
    plain = object_flags(tmp_path, "promptable", document, results, "--mode=box")
    expected, _ = last_line(script, capsys, *plain)
    for number, polygons in enumerate(([], [[1, 2, 3, 4]])):
        entry = {"id": 50 + number, "image_id": 1, "segmentation": polygons}
        document["annotations"].insert(0, entry)
    more = object_flags(tmp_path, "promptable", document, results, "--mode=box")
    assert last_line(script, capsys, *more)[0] == expected


def test_grid_points_inside_count_as_they_do_for_our_own_models(script, tmp_path, capsys, prompted):
    document, _, masks = prompted
    rng, scores, results = np.random.default_rng(3), PromptableScores(), []
    points = image_grid(4, HW)
    for image_id, own in ((1, (10, 11, 12)), (2, (20,))):
        found = np.array([random_mask(rng) for _ in range(2 * len(points))])
        truth = TrueMasks.from_rles([rle_encode(masks[number]) for number in own], HW)
        scorer = GridScorer(truth, points)
        scorer.add(PackedMasks.from_masks(found, HW), np.zeros((len(points), 2)))
        scores.add({"grid_inside": scorer.best["grid_inside"].iou})
        results += [
            {"image_id": image_id, "segmentation": rle_encode(m), "point_coords": [p.tolist()]}
            for m, p in zip(found, points.repeat(2, axis=0), strict=True)
        ]
    shuffled = [results[place] for place in rng.permutation(len(results)).tolist()]
    arguments = object_flags(tmp_path, "promptable", document, shuffled, "--mode=grid_inside")
    found, _ = last_line(script, capsys, *arguments)
    expected = scores.compute()["grid_inside"]
    assert found["grid_inside"]["iou"] == pytest.approx(100 * expected["iou"], abs=1e-9)
    assert found["grid_inside"]["iou"] > 0 and found["grid_inside"]["unanswered"] == 0
    arguments = object_flags(tmp_path, "promptable", document, [], "--mode=grid_inside")
    assert last_line(script, capsys, *arguments)[0]["grid_inside"]["unanswered"] == 4


def test_without_a_point_inside_the_nearest_one_counts(script, tmp_path, capsys):
    mask, near, far = (np.zeros(HW, bool) for _ in range(3))
    mask[10:13, 10:13], near[10:13, 10:12], far[10:13, 10:13] = True, True, True
    document = {
        **TRUTH,
        "annotations": [{"id": 4, "image_id": 1, "segmentation": rle_encode(mask)}],
    }
    results = [
        {"image_id": 1, "segmentation": rle_encode(m), "point_coords": [[x, 20]]}
        for m, x in ((far, 60), (near, 20))
    ]
    arguments = object_flags(tmp_path, "promptable", document, results, "--mode=grid_inside")
    found, _ = last_line(script, capsys, *arguments)
    assert found["grid_inside"]["iou"] == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({"prompt": 5}, ("--mode=box",), "its prompt is that of annotation 5"),
        ({"prompt": None}, ("--mode=center",), "'prompt' is None"),
        ({"score": None}, ("--mode=center",), "'score' is None"),
        ({}, ("--mode=grid_inside",), "'point_coords' is None, expected one point"),
        ({"point_coords": [[1, 2], [3, 4]]}, ("--mode=grid_inside",), "[[1, 2], [3, 4]], expected"),
        ({"point_coords": [[1, "x"]]}, ("--mode=grid_inside",), "expected one point, [[x, y]]"),
        ({}, ("--mode=grid",), "grid_any"),
        ({}, (), "--task=promptable needs --mode"),
        ({}, ("--mode=box", "--min_area=2"), "min_area"),
        ({}, ("--mode=box", "--num_classes=2"), "has no use for --num_classes"),
    ],
)
def test_answers_that_do_not_fit_are_one_sentence(script, tmp_path, capsys, change, more, message):
    arguments = object_flags(tmp_path, "promptable", TRUTH, [{**RESULT, **change}], *more)
    assert message in complaint(script, capsys, *arguments)


@pytest.mark.parametrize("categories", [[], None, [{"name": "no id"}]])
def test_categories_play_no_part_for_prompts(script, tmp_path, capsys, categories):
    truth = {**TRUTH, "categories": categories}
    arguments = object_flags(tmp_path, "promptable", truth, [RESULT], "--mode=box")
    assert last_line(script, capsys, *arguments)[0]["box"]["iou"] == 100.0


def test_points_of_another_frame_are_refused(script, tmp_path, capsys):
    height, width = HW
    right, low = width - 0.5, height - 0.5
    for x, y in ((-0.5, -0.5), (right, low)):
        arguments = object_flags(
            tmp_path, "promptable", TRUTH, [{**RESULT, "point_coords": [[x, y]]}]
        )
        found, _ = last_line(script, capsys, *arguments, "--mode=grid_inside")
        assert found["grid_inside"]["iou"] == 100.0
    for x, y in ((right + 0.1, 3), (3, low + 0.1), (-0.6, 3), (3, -0.6), (10**400, 3)):
        results = [{**RESULT, "point_coords": [point]} for point in ([3, 3], [x, y])]
        arguments = object_flags(tmp_path, "promptable", TRUTH, results, "--mode=grid_inside")
        message = complaint(script, capsys, *arguments)
        assert "results.json: [1]: 'point_coords' is [[" in message
        assert f"outside of its image, which has a width of {width} and a height of {height}" in (
            message
        )


# --- Nothing to score --------------------------------------------------------------------------

CROWD = {**TRUTH, "annotations": [{**TRUTH["annotations"][0], "iscrowd": 1}]}


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


def test_the_least_area_is_named_only_if_it_was_given(script, tmp_path, capsys):
    arguments = object_flags(tmp_path, "promptable", CROWD, [], "--mode=box")
    assert "gt.json has no mask besides crowds" in complaint(script, capsys, *arguments)
    message = complaint(script, capsys, *arguments, "--min_area=0.5")
    assert "gt.json has no mask of at least 0.5 of its image besides crowds" in message


def test_a_panoptic_truth_without_segments_is_an_error(script, tmp_path, capsys):
    ids = np.ones((2, 2), np.int32)
    write_maps(tmp_path, "pred", {1: (ids, (Segment(1, 0),))})
    write_maps(tmp_path, "gt", {1: (0 * ids, ())})
    message = complaint(script, capsys, *panoptic_flags(tmp_path))
    assert "nothing to score" in message and "gt.json has no segment of a listed class" in message
    document = json.loads((tmp_path / "gt.json").read_text())
    write_json(tmp_path / "gt.json", {**document, "annotations": []})
    message = complaint(script, capsys, *panoptic_flags(tmp_path))
    assert 'gt.json has an empty list "annotations"; expected at least one.' in message


def test_label_maps_with_only_ignored_pixels_are_an_error(script, tmp_path, capsys):
    save(tmp_path / "gt" / "a.png", np.array([[255, 255]], np.uint8))
    save(tmp_path / "pred" / "a.png", np.array([[0, 1]], np.uint8))
    arguments = semantic_flags(tmp_path, "--num_classes=2", "--ignore=255")
    message = complaint(script, capsys, *arguments)
    assert "nothing to score" in message and f"{tmp_path / 'gt'} have no pixel" in message


# --- All ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--task"),
        (("--task=depth",), "panoptic"),
        (("--task=panoptic",), "--task=panoptic needs --gt_json, --pred_json"),
        (("--task=semantic", "--gt_dir=a", "--pred_dir=b"), "needs --num_classes"),
        (("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=0"), "num_classes"),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2", "--ignore=x"),
            "--ignore takes whole numbers, got x",
        ),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2"),
            "There is no folder a",
        ),
        (("--task=instance", "--gt_json=none", "--pred_json=none"), "none cannot be read"),
        (("--task=instance", "more"), "Unexpected argument 'more'"),
        (("--task=instance", "--gt_json=none", "--pred_json="), "--pred_json is empty"),
        (
            ("--task=semantic", "--gt_dir=", "--pred_dir=b", "--num_classes=2"),
            "--gt_dir is empty",
        ),
        (
            ("--task=semantic", "--gt_dir=a", "--pred_dir=b", "--num_classes=2", "--ignore="),
            "--ignore is empty",
        ),
    ],
)
def test_wrong_flags_are_one_sentence(script, capsys, arguments, message):
    assert message in complaint(script, capsys, *arguments)


def test_names_that_the_terminal_has_no_character_for_are_escaped(script, tmp_path, monkeypatch):
    rows = [{"id": 3, "name": "caf\u00e9"}, {"id": 7, "name": "\ud800"}]
    arguments = object_flags(tmp_path, "instance", {**TRUTH, "categories": rows}, [RESULT])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert call(script, *arguments) == 0
    terminal.seek(0)
    *table, scores = terminal.read().splitlines()
    assert "| 3 | caf\\xe9 |" in table[2] and "| 7 | \\ud800 |" in table[3]
    assert json.loads(scores)["all"]["ap"] == 100.0


def test_numbers_that_no_float_holds_are_one_sentence(script, tmp_path, capsys):
    annotation = {**TRUTH["annotations"][0], "area": 10**400}
    for truth, change, message in (
        ({**TRUTH, "annotations": [annotation]}, {}, "annotations[0]: 'area' is 1000"),
        (TRUTH, {"score": -(10**400)}, "[0]: 'score' is -1000"),
    ):
        arguments = object_flags(tmp_path, "instance", truth, [{**RESULT, **change}])
        assert message in complaint(script, capsys, *arguments)


def test_no_model_library_is_loaded(tmp_path):
    arguments = object_flags(tmp_path, "instance", TRUTH, [RESULT])
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['score.py', *{list(arguments)!r}]\n"
        "try:\n"
        "    runpy.run_path('scripts/score.py', run_name='__main__')\n"
        "finally:\n"
        "    print(sorted({'jax', 'flax', 'torch', 'tensorflow'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    *_, scores, loaded = run.stdout.splitlines()
    assert loaded == "[]" and json.loads(scores)["all"]["ap"] == pytest.approx(100)
