"""Masks of other models: whose they are, of which benchmark, and which fits best."""

import json
import pathlib

import numpy as np
import pytest

from uniovseg_jax.eval.metrics.promptable import TrueMasks
from uniovseg_jax.eval.reports.other_masks import best_masks, parse_others, read_masks
from uniovseg_jax.masks import rle_encode

HW = (9, 13)


def test_files_belong_to_a_benchmark():
    words = ["SAM:ishape/fence=a=b.json", "SAM:trashcan=t.json", "other:trashcan=o.json"]
    assert parse_others(words, {"ishape/fence", "trashcan"}) == {
        "ishape/fence": {"SAM": pathlib.Path("a=b.json")},
        "trashcan": {"SAM": pathlib.Path("t.json"), "other": pathlib.Path("o.json")},
    }
    for wrong, complaint in (
        (["SAM=a.json"], "--others is SAM=a.json; expected name:benchmark=file."),
        (["SAM:trashcan="], "expected name:benchmark=file"),
        (["SAM:fence=a.json"], "benchmark 'fence'; the results with prompts are of trashcan."),
        (["SAM:trashcan=a", "SAM:trashcan=b"], "two files of SAM for trashcan"),
    ):
        with pytest.raises(ValueError, match=complaint):
            parse_others(wrong, {"trashcan"})


def test_the_best_result_is_taken_for_every_true_mask():
    rng = np.random.default_rng(0)
    true, found = rng.random((3, *HW)) < 0.5, rng.random((6, *HW)) < 0.5
    found[4] = true[1]
    truth = TrueMasks.from_rles([rle_encode(mask) for mask in true], HW)
    entries = [(str(n), {"segmentation": rle_encode(mask)}) for n, mask in enumerate(found)]
    best = best_masks(truth, entries)
    for row, mask in enumerate(true):
        iou = [(mask & other).sum() / (mask | other).sum() for other in found]
        assert best.iou[row] == pytest.approx(max(iou))
        np.testing.assert_array_equal(best.masks.mask(row), found[int(np.argmax(iou))])
    assert best.iou[1] == 1.0
    np.testing.assert_array_equal(best_masks(truth, []).iou, 0.0)
    wrong = [("entry 5", {"segmentation": rle_encode(np.ones((2, 2), bool))})]
    with pytest.raises(ValueError, match="entry 5: The mask has size"):
        best_masks(truth, wrong)


def test_results_of_other_models_are_found_by_image(tmp_path):
    path = tmp_path / "sam.json"
    path.write_text(json.dumps([{"image_id": 7}, {"image_id": "x"}, {"image_id": 7}]))
    found = read_masks(path, {"7": None, "8": None})
    assert [len(entries) for entries in found.values()] == [2, 1] and list(found) == ["7", "x"]
    with pytest.raises(ValueError, match="no result for an image of the benchmark, such as 9"):
        read_masks(path, {"9": None})
    path.write_text("{}")
    with pytest.raises(ValueError, match="expected a list of results"):
        read_masks(path, {"7": None})
