"""Which images of a run are shown, and what another model made of them."""

import json

import numpy as np
import pytest

from uniovseg_jax.eval.gallery import best_masks, choose_images, read_masks
from uniovseg_jax.eval.promptable import TrueMasks
from uniovseg_jax.masks import rle_encode

HW = (9, 13)


def done(*qualities):
    return {f"image {n}": {"quality": {"semantic": q}} for n, q in enumerate(qualities)}


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        ("worst", ["image 3", "image 0"]),
        ("median", ["image 0", "image 4"]),
        ("best", ["image 4", "image 1"]),
    ],
)
def test_images_are_chosen_by_how_well_they_went(choose, expected):
    # Image 2 has no score.
    by, chosen = choose_images(done(0.2, 0.9, None, 0.1, 0.5), 2, choose)
    assert by == "semantic"
    assert [image_id for image_id, _ in chosen] == expected


def test_random_images_depend_on_the_seed_and_not_on_who_was_finished_first():
    images = done(*np.linspace(0, 1, 30))
    backwards = dict(reversed(images.items()))
    first = choose_images(images, 5, "random", seed=0)
    assert first == choose_images(backwards, 5, "random", seed=0)
    assert first != choose_images(images, 5, "random", seed=1)
    assert len(set(first[1])) == 5


def test_where_nothing_ranks_images_any_are_taken():
    by, chosen = choose_images({name: {"quality": {"instance": None}} for name in "ab"}, 5, "worst")
    assert by is None and chosen == [("a", None), ("b", None)]


def test_a_run_without_images_and_an_unknown_choice_are_refused():
    with pytest.raises(ValueError, match="no images"):
        choose_images({}, 1, "worst")
    with pytest.raises(ValueError, match="worst, median, best, random"):
        choose_images(done(0.5), 1, "nicest")


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
