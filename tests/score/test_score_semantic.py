"""scripts/score.py on label maps: the last line, and what it refuses."""

import numpy as np
import pytest
from PIL import Image
from score_calls import complaint, last_line, save, semantic_flags

from uniovseg_jax.eval.metrics.semantic import SemanticScores


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


def test_label_maps_with_only_ignored_pixels_are_an_error(script, tmp_path, capsys):
    save(tmp_path / "gt" / "a.png", np.array([[255, 255]], np.uint8))
    save(tmp_path / "pred" / "a.png", np.array([[0, 1]], np.uint8))
    arguments = semantic_flags(tmp_path, "--num_classes=2", "--ignore=255")
    message = complaint(script, capsys, *arguments)
    assert "nothing to score" in message and f"{tmp_path / 'gt'} have no pixel" in message
