"""scripts/score.py on panoptic maps: the last line, and what it refuses."""

import json

import numpy as np
import pytest
from made_panoptic import CLASSES, quality_by_definition, random_image
from PIL import Image
from score_calls import complaint, last_line, panoptic_flags, write_json, write_maps

from uniovseg_jax.benchmarks.segment import Segment


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
