"""scripts/score.py on masks for prompts: the last line, and what it refuses."""

import numpy as np
import pytest
from made_objects import HW, random_mask
from score_calls import CROWD, RESULT, TRUTH, complaint, last_line, object_flags

from uniovseg_jax.eval.metrics.promptable import (
    GridScorer,
    PromptableScores,
    TrueMasks,
)
from uniovseg_jax.eval.prompted import image_grid
from uniovseg_jax.masks import rle_decode, rle_encode
from uniovseg_jax.packed_masks import PackedMasks


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


def test_the_least_area_is_named_only_if_it_was_given(script, tmp_path, capsys):
    arguments = object_flags(tmp_path, "promptable", CROWD, [], "--mode=box")
    assert "gt.json has no mask besides crowds" in complaint(script, capsys, *arguments)
    message = complaint(script, capsys, *arguments, "--min_area=0.5")
    assert "gt.json has no mask of at least 0.5 of its image besides crowds" in message
