import numpy as np
import pytest

from uniovseg_jax.inference import results
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.vocabulary import parse_vocabulary

# Left half, right half, and a small square inside the left half.
MASKS = np.full((3, 6, 8), -9.0, np.float32)
MASKS[0, :, :4] = MASKS[1, :, 4:] = MASKS[2, 1:3, 1:3] = 9.0


def _named(probs, names="grass,ball,cube", stuff="grass", background="", masks=MASKS):
    return results.NamedMasks(
        parse_vocabulary(names, stuff, background),
        FullSizeLogits.at_own_size(masks),
        np.array(probs, np.float32),
        np.array([0.9, 0.8, 0.95], np.float32),
    )


PROBS = [[0.7, 0.2, 0.1], [0.6, 0.1, 0.3], [0.05, 0.9, 0.05]]


def test_panoptic_segments_carry_names_scores_boxes_and_run_lengths():
    found = results.panoptic_result(_named(PROBS), 0.4)
    assert [s.name for s in found.segments] == ["ball", "grass"]
    ball, grass = found.segments
    assert ball.is_thing and not grass.is_thing
    assert ball.bbox == (1, 1, 2, 2) and ball.area == 4
    assert grass.bbox == (0, 0, 8, 6) and grass.area == 44  # Both grass masks in one segment.
    assert grass.score == pytest.approx(0.7) and grass.quality == pytest.approx(0.9)
    assert grass.runner_up == "ball" and grass.runner_up_score == pytest.approx(0.2)
    for segment in found.segments:
        np.testing.assert_array_equal(rle_decode(segment.rle), found.label_map == segment.id)


def test_semantic_labels_are_the_category_plus_one_and_void_is_zero():
    probs = [[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.05, 0.9, 0.05]]
    masks = MASKS.copy()
    masks[1, 5] = -9.0  # Nothing covers the lower right.
    found = results.semantic_result(_named(probs, masks=masks))
    expected = np.ones((6, 8), int)
    expected[:5, 4:], expected[1:3, 1:3], expected[5, 4:] = 3, 2, 0
    np.testing.assert_array_equal(found.label_map, expected)
    assert [(s.id, s.name) for s in found.segments] == [(1, "grass"), (2, "ball"), (3, "cube")]


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_what_background_wins_is_void(task):
    named = _named([[0.2, 0.1, 0.7], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]], "grass,ball", "", "sky")
    found = (
        results.semantic_result(named)
        if task == "semantic"
        else results.panoptic_result(named, 0.4)
    )
    assert sorted(s.name for s in found.segments) == ["ball", "grass"]
    assert found.label_map[0, 0] == 0 and found.label_map[1, 1] > 0 and found.label_map[0, 7] > 0
    assert set(np.unique(found.label_map)) == {0, 1, 2}


def test_instances_are_things_only_and_the_map_shows_the_best_one():
    named = _named(PROBS)
    found = results.instance_result(named, 100)
    assert {s.name for s in found.segments} == {"ball", "cube"}
    scores = [s.score for s in found.segments]
    assert scores == sorted(scores, reverse=True) and found.segments[0].name == "ball"
    assert (found.label_map[1:3, 1:3] == 1).all()
    assert len(results.instance_result(named, 2).segments) == 1  # Of two pairs one is grass.


def test_one_category_has_no_runner_up():
    named = _named([[1.0], [1.0], [1.0]], "ball", "")
    assert all(s.runner_up is None for s in results.panoptic_result(named, 0.4).segments)
