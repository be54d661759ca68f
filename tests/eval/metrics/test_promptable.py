"""Every mode against dense arrays and plain loops, with a model whose masks are known."""

import io

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.eval.metrics.promptable import (
    MODES,
    BestMasks,
    PromptableScores,
    TrueMasks,
    center_point,
    prompts_inside,
    suite_means,
)
from uniovseg_jax.eval.prompted import find_best_masks, image_grid, read_record
from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.predictor import Predictor
from uniovseg_jax.masks import rle_encode

HW = (21, 34)


class KnownMasks(Predictor):
    """A predictor whose masks are drawn from the prompt: four for a point, one for a box."""

    def __init__(self, chunk, empty=False):
        self.chunk, self.empty = chunk, empty
        self.images = 0

    def set_image(self, image):
        self.images += 1

    def masks_of(self, prompt):
        rng = np.random.default_rng(np.round(np.asarray(prompt, float) * 1000).astype(int))
        k = 4 if len(prompt) == 2 else 1
        masks = np.kron(rng.random((k, 3, 2)) < 0.4, np.ones((7, 17), bool))
        quality = rng.random(k)
        return (masks & (not self.empty)), quality

    def predict_few(self, point_coords=None, box=None):
        prompts = box if point_coords is None else point_coords
        for start in range(0, len(prompts), self.chunk):
            made = [self.masks_of(prompt) for prompt in prompts[start : start + self.chunk]]
            masks = np.concatenate([masks for masks, _ in made])
            logits = np.where(masks, 1, -1).astype(np.float32)
            quality = np.stack([quality for _, quality in made])
            yield FullSizeLogits.at_own_size(logits), quality


def _masks(rng, count):
    """Rectangles, blobs, borders, a single pixel, the whole image."""
    masks = np.zeros((count, *HW), bool)
    for mask in masks:
        y, x = rng.integers(0, HW[0]), rng.integers(0, HW[1])
        mask[y : y + rng.integers(1, 15), x : x + rng.integers(1, 20)] = True
        mask &= rng.random(HW) < 0.9
    masks[0] = True
    masks[1] = False
    masks[1, -1, 3] = True
    masks[2] = False
    masks[2, :, :2] = True
    return masks[masks.any(axis=(1, 2))]


def _truth(masks):
    return TrueMasks.from_rles([rle_encode(mask) for mask in masks], HW)


def _iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def _innermost(mask):
    """Squared distances to every pixel outside, the frame around the image among them."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded)
    best, where = -1, None
    for y, x in np.argwhere(padded):
        distance = ((outside - (y, x)) ** 2).sum(axis=1).min()
        if distance > best:
            best, where = distance, (x - 1, y - 1)
    return where


def _brute_force(masks, predictor, per_side, random_xy):
    """IoU by mode, one mask after the other."""
    result = {mode: [] for mode in (*MODES, "center_ranked", "random_ranked")}
    height, width = HW
    grid = [
        ((i + 0.5) / per_side * (width - 1), (j + 0.5) / per_side * (height - 1))
        for j in range(per_side)
        for i in range(per_side)
    ]
    grid = [tuple(np.float32(v) for v in point) for point in grid]
    for row, mask in enumerate(masks):
        of_points = [max(_iou(mask, m) for m in predictor.masks_of(point)[0]) for point in grid]
        result["grid_any"].append(max(of_points))
        inside = [p for p, (x, y) in enumerate(grid) if mask[int(y + 0.5), int(x + 0.5)]]
        cx, cy = _innermost(mask)
        nearest = np.argmin([(x - cx) ** 2 + (y - cy) ** 2 for x, y in grid])
        result["grid_inside"].append(max(of_points[p] for p in inside or [nearest]))
        for mode, point in (("center", (cx, cy)), ("random", random_xy[row])):
            predicted, quality = predictor.masks_of(point)
            ious = [_iou(mask, m) for m in predicted]
            result[mode].append(max(ious))
            result[f"{mode}_ranked"].append(ious[int(np.argmax(quality))])
        ys, xs = np.nonzero(mask)
        box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        result["box"].append(_iou(mask, predictor.masks_of(box)[0][0]))
    return result


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_every_mode_equals_plain_loops_whatever_the_chunks(chunk):
    masks = _masks(np.random.default_rng(0), 12)
    truth, predictor = _truth(masks), KnownMasks(chunk)
    image = np.zeros((*HW, 3), np.uint8)
    best = find_best_masks(predictor, image, truth, MODES, 5, (7, "a"))
    expected = _brute_force(masks, predictor, 5, truth.random_points(7, "a"))
    assert set(best) == set(expected) and predictor.images == 1
    for mode, found in best.items():
        np.testing.assert_allclose(found.iou, expected[mode], rtol=1e-12, err_msg=mode)
        for row, mask in enumerate(masks):
            assert _iou(mask, found.masks.mask(row)) == pytest.approx(found.iou[row], abs=1e-12)
    assert (best["grid_any"].iou >= best["grid_inside"].iou).all()
    assert (best["center"].iou > best["center_ranked"].iou).any()


def test_only_the_modes_asked_for_are_scored():
    truth = _truth(_masks(np.random.default_rng(0), 4))
    image = np.zeros((*HW, 3), np.uint8)
    assert set(find_best_masks(KnownMasks(9), image, truth, ["box"], 2, (0, ""))) == {"box"}
    found = find_best_masks(KnownMasks(9), image, truth, ["grid_inside", "center"], 2, (0, ""))
    assert set(found) == {"grid_inside", "center", "center_ranked"}


def test_empty_predictions_score_zero():
    truth = _truth(_masks(np.random.default_rng(0), 5))
    image = np.zeros((*HW, 3), np.uint8)
    best = find_best_masks(KnownMasks(4, empty=True), image, truth, MODES, 3, (0, ""))
    for found in best.values():
        assert not found.iou.any() and not found.masks.areas.any()


def test_crowds_empty_and_small_masks_are_dropped():
    masks = np.zeros((5, *HW), bool)
    masks[0, 2:5, 2:5] = True  # 9 of 714 pixels.
    masks[2, :8, :] = True
    masks[3, :10, :] = True
    masks[4, 20, 33] = True
    rles = [rle_encode(mask) for mask in masks]
    rles[2]["iscrowd"] = 1
    rles[3]["iscrowd"] = 0
    np.testing.assert_array_equal(TrueMasks.from_rles(rles, HW).indices, [0, 3, 4])
    np.testing.assert_array_equal(TrueMasks.from_rles(rles, HW, 9 / 714).indices, [0, 3])
    np.testing.assert_array_equal(TrueMasks.from_rles(rles, HW, 0.01261).indices, [3])
    nothing = TrueMasks.from_rles(rles, HW, 1.0)
    assert len(nothing) == 0 and nothing.masks.hw == HW and nothing.centers_xy.shape == (0, 2)


def test_a_mask_of_another_size_is_refused_by_its_number():
    rles = [rle_encode(np.ones(HW, bool)), rle_encode(np.ones((3, 4), bool))]
    with pytest.raises(ValueError, match=r"Mask 1 has size \(3, 4\), the image \(21, 34\)"):
        TrueMasks.from_rles(rles, HW)


def test_centre_points_are_farthest_from_everything_outside():
    rng = np.random.default_rng(3)
    for mask in (*_masks(rng, 8), *(rng.random((4, *HW)) < 0.7)):
        np.testing.assert_array_equal(center_point(mask), _innermost(mask))
    ring = np.ones((9, 9), bool)
    ring[2:7, 2:7] = False
    x, y = center_point(ring).astype(int)
    assert ring[y, x]
    with pytest.raises(ValueError, match="empty mask has no centre"):
        center_point(np.zeros((3, 3), bool))


def test_random_points_lie_inside_and_depend_on_seed_image_and_mask_alone():
    masks = _masks(np.random.default_rng(5), 9)
    truth = _truth(masks)
    points = truth.random_points(1, "a")
    assert all(mask[int(y), int(x)] for mask, (x, y) in zip(masks, points, strict=True))
    rles = [rle_encode(mask) for mask in masks]
    fewer = TrueMasks.from_rles(rles, HW, 0.05)
    assert 0 < len(fewer) < len(truth)
    np.testing.assert_array_equal(fewer.random_points(1, "a"), points[fewer.indices])
    assert (truth.random_points(2, "a") != points).any()
    assert (truth.random_points(1, "b") != points).any()


def test_a_mask_between_the_grid_points_takes_the_nearest_one():
    mask = np.zeros(HW, bool)
    mask[9:12, 20:22] = True
    grid = image_grid(2, HW)
    np.testing.assert_allclose(grid, [[8.25, 5], [24.75, 5], [8.25, 15], [24.75, 15]])
    inside = prompts_inside(_truth(mask[None]), grid)
    # Its centre point (20, 10) is as far from the upper as from the lower one: the first counts.
    np.testing.assert_array_equal(inside, [[False, True, False, False]])


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1)])
def test_grids_of_tiny_images_stay_inside(hw):
    grid = image_grid(3, hw)
    assert grid.shape == (9, 2)
    assert (grid >= 0).all() and (grid <= (hw[1] - 1, hw[0] - 1)).all()


def test_means_are_over_masks_and_over_images():
    scores = PromptableScores()
    scores.add({"box": np.array([1.0, 0.0, 0.5])})
    scores.add({"box": np.array([0.25]), "center": np.array([0.5])})
    scores.add({"box": np.array([])})
    result = scores.compute()
    assert result["box"] == {"iou": 1.75 / 4, "iou_of_images": 0.375, "masks": 4, "images": 2}
    assert result["center"] == {"iou": 0.5, "iou_of_images": 0.5, "masks": 1, "images": 1}


def test_merging_parts_gives_the_result_of_the_whole():
    rng = np.random.default_rng(0)
    whole, left, right = (PromptableScores() for _ in range(3))
    for image in range(7):
        ious = {"box": rng.random(image + 1)} | ({"center": rng.random(3)} if image > 4 else {})
        whole.add(ious)
        (left if image % 3 else right).add(ious)
    left.merge(right)
    assert left.compute() == {
        mode: pytest.approx(values) for mode, values in whole.compute().items()
    }


def test_a_better_mask_replaces_a_worse_one_and_an_equal_one_does_not():
    masks = _masks(np.random.default_rng(0), 3)
    best = BestMasks(_truth(masks))
    first, second = (np.full_like(best.masks.words, value) for value in (1, 2))
    best.offer(np.array([0.5, 0.5, 0.0]), first)
    best.offer(np.array([0.5, 0.6, 0.0]), second)
    np.testing.assert_array_equal(best.iou, [0.5, 0.6, 0.0])
    np.testing.assert_array_equal(best.masks.words[:, 0, 0], [1, 2, 0])
    # Areas and boxes that were asked for before do not go with masks that came later.
    before = best.masks
    areas = before.areas.copy()
    best.offer(np.ones(3), np.full_like(best.words, 3))
    np.testing.assert_array_equal(before.words[:, 0, 0], [1, 2, 0])
    np.testing.assert_array_equal(before.areas, areas)
    assert (best.masks.areas > areas).all()


def test_a_record_is_read_from_bytes_or_pixels_and_named_when_wrong():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (*HW, 3), np.uint8)
    record = {"id": "x7", "image": pixels, "masks": [rle_encode(np.ones(HW, bool))]}
    image, truth = read_record(record, 0.5)
    np.testing.assert_array_equal(image, pixels)
    assert len(truth) == 1
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    np.testing.assert_array_equal(read_record(record | {"image": file.getvalue()}, 0.5)[0], pixels)
    with pytest.raises(ValueError, match="image of record x7: expected uint8 RGB, got float"):
        read_record(record | {"image": pixels / 255}, 0.5)
    with pytest.raises(ValueError, match="image of record x7 cannot be read as an image"):
        read_record(record | {"image": b"no picture"}, 0.5)
    with pytest.raises(ValueError, match="Record x7: Mask 0 has size"):
        read_record(record | {"image": pixels[:-1]}, 0.5)
    with pytest.raises(ValueError, match="Record x7: RLE"):
        read_record(record | {"masks": [{"size": [21, 34], "counts": "zz"}]}, 0.5)


def test_the_box_of_a_mask_ends_behind_its_last_pixels():
    mask = np.zeros(HW, bool)
    mask[4:7, 9] = mask[20, 33] = True
    np.testing.assert_array_equal(_truth(mask[None]).masks.boxes_xyxy, [[9, 4, 34, 21]])


def test_every_dataset_of_a_suite_counts_the_same():
    large, small = PromptableScores(), PromptableScores()
    large.add({"box": np.full(90, 0.2), "center": np.full(90, 0.4)})
    large.add({"box": np.full(10, 0.7), "center": np.full(10, 0.4)})
    small.add({"box": np.array([1.0]), "center": np.array([0.5])})
    means = suite_means({"a": large.compute(), "b": small.compute()})
    assert means["box"] == {
        "iou": pytest.approx((0.25 + 1) / 2),
        "iou_of_images": pytest.approx((0.45 + 1) / 2),
        "datasets": 2,
    }
    assert means["center"]["iou"] == pytest.approx(0.45)


def test_a_suite_with_a_dataset_that_was_not_scored_has_no_mean():
    scores = PromptableScores()
    scores.add({"box": np.array([1.0])})
    with pytest.raises(ValueError, match="b has scores for no mode, a for box; expected the same"):
        suite_means({"a": scores.compute(), "b": PromptableScores().compute()})
    with pytest.raises(ValueError, match="needs one at least"):
        suite_means({})
