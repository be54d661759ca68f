"""COCO run lengths, boxes, overlaps and mask suppression."""

import time
import tracemalloc

import numpy as np
import pytest

from uniovseg_jax import masks as masks_lib


def random_mask(rng, h, w):
    kind = rng.integers(5)
    if kind == 0:
        return np.zeros((h, w), bool)
    if kind == 1:
        return np.ones((h, w), bool)
    if kind == 2:
        return rng.random((h, w)) < rng.random()
    y, x = np.mgrid[:h, :w]
    return (y - rng.integers(h)) ** 2 + (x - rng.integers(w)) ** 2 < rng.integers(1, h * w + 1)


def encode_loop(mask):
    """COCO's run lengths, one pixel and one character at a time."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if bool(pixel) != value:
            runs.append(0)
            value = bool(pixel)
        runs[-1] += 1
    text = ""
    for i, run in enumerate(runs):
        x = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            c = x & 31
            x >>= 5
            more = x != -1 if c & 16 else x != 0
            text += chr((c | (32 if more else 0)) + 48)
    return text, runs


def test_rle_equals_the_loop_and_comes_back():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = random_mask(rng, *rng.integers(1, 60, 2))
        rle = masks_lib.rle_encode(mask)
        text, runs = encode_loop(mask)
        assert rle == {"size": list(mask.shape), "counts": text}
        np.testing.assert_array_equal(masks_lib.rle_decode(rle), mask)
        plain = {"size": list(mask.shape), "counts": runs}
        np.testing.assert_array_equal(masks_lib.rle_decode(plain), mask)
        assert masks_lib.rle_area(rle) == mask.sum()


def test_rle_equals_pycocotools():
    coco = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(1)
    for shape in [(1, 1), (7, 300), (640, 480), (33, 65)]:
        for _ in range(10):
            mask = random_mask(rng, *shape)
            theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            assert masks_lib.rle_encode(mask)["counts"].encode() == theirs["counts"]
            np.testing.assert_array_equal(masks_lib.rle_decode(theirs), mask)


GOOD = masks_lib.rle_encode(np.eye(4, dtype=bool))


@pytest.mark.parametrize(
    "rle",
    [
        None,
        {},
        {"size": [4, 4]},
        {**GOOD, "size": [4, 5]},
        {**GOOD, "size": [4]},
        {**GOOD, "size": [0, 16]},
        {**GOOD, "size": [-4, -4]},
        {**GOOD, "size": [True, 16]},
        {**GOOD, "size": [4.0, 4]},
        {**GOOD, "size": [1 << 16, 1 << 16]},
        {**GOOD, "size": "44"},
        {**GOOD, "counts": None},
        {**GOOD, "counts": ""},
        {**GOOD, "counts": []},
        {**GOOD, "counts": [16.0]},
        {**GOOD, "counts": [1 << 80]},
        {**GOOD, "counts": [-1, 17]},
        {**GOOD, "counts": [8, 7]},
        {**GOOD, "counts": [0] * 17 + [16]},
        {**GOOD, "counts": GOOD["counts"] + "o" * 20},
        {**GOOD, "counts": GOOD["counts"][:-1]},
        {**GOOD, "counts": "\u00e9"},
        {**GOOD, "counts": " 0"},
        {**GOOD, "counts": "o" * 8 + "0"},
        {**GOOD, "counts": "0" * 10_000},
    ],
)
def test_malformed_rle_is_refused_in_one_sentence(rle):
    with pytest.raises(ValueError, match=r"^[^\n]*RLE[^\n]*\.$"):
        masks_lib.rle_decode(rle)


def test_fuzzed_rle_is_decoded_as_the_loop_does_or_refused():
    rng = np.random.default_rng(2)
    good = masks_lib.rle_encode(rng.random((12, 9)) < 0.3)
    accepted = 0
    for _ in range(2000):
        text = bytearray(good["counts"].encode())
        for _ in range(rng.integers(1, 4)):
            text[rng.integers(len(text))] = rng.integers(32, 127)
        try:
            mask = masks_lib.rle_decode({"size": [12, 9], "counts": bytes(text)})
        except ValueError:
            continue
        accepted += 1
        assert mask.shape == (12, 9) and mask.dtype == bool
        again = masks_lib.rle_decode(masks_lib.rle_encode(mask))
        np.testing.assert_array_equal(again, mask)
    assert accepted < 2000


HUGE = [8192, 8192]


@pytest.mark.parametrize(
    "counts",
    [
        b"0" * 60_000_000,
        b"PPPPPP0" * masks_lib.MAX_RUNS,
        b"P" * (7 * masks_lib.MAX_RUNS - 1) + b"0",
        b"0" * masks_lib.MAX_RUNS,
        [0] * (masks_lib.MAX_RUNS + 1),
    ],
    ids=["many", "long", "longest", "most", "list"],
)
def test_a_hostile_mask_costs_less_than_half_a_gigabyte(counts):
    tracemalloc.start()
    with pytest.raises(ValueError, match="RLE"):
        masks_lib.rle_decode({"size": HUGE, "counts": counts})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 29


def test_the_most_runs_come_back_and_one_more_is_refused(monkeypatch):
    mask = np.random.default_rng(0).random((80, 90)) < 0.3
    rle = masks_lib.rle_encode(mask)
    num_runs = len(masks_lib.checked_runs(rle)[2])
    monkeypatch.setattr(masks_lib, "_RUNS_PER_BLOCK", 7)
    monkeypatch.setattr(masks_lib, "MAX_RUNS", num_runs + 1)
    assert masks_lib.rle_encode(mask) == rle
    np.testing.assert_array_equal(masks_lib.rle_decode(rle), mask)
    monkeypatch.setattr(masks_lib, "MAX_RUNS", num_runs - 1)
    with pytest.raises(ValueError, match=f"more than {num_runs - 1} runs"):
        masks_lib.rle_encode(mask)
    with pytest.raises(ValueError, match=f"more than {num_runs - 1} runs"):
        masks_lib.rle_decode(rle)


def test_encode_refuses_an_empty_array():
    with pytest.raises(ValueError, match="2-d"):
        masks_lib.rle_encode(np.zeros((0, 3), bool))


def test_box_from_mask():
    mask = np.zeros((6, 9), bool)
    np.testing.assert_array_equal(masks_lib.box_from_mask(mask), [0, 0, 0, 0])
    mask[2:4, 5:8] = True
    np.testing.assert_array_equal(masks_lib.box_from_mask(mask), [5, 2, 8, 4])


def test_iou_matrix_equals_set_operations():
    rng = np.random.default_rng(3)
    a = np.stack([random_mask(rng, 21, 17) for _ in range(9)])
    b = np.stack([random_mask(rng, 21, 17) for _ in range(5)])
    iou = masks_lib.mask_iou_matrix(a, b)
    for i, j in np.ndindex(9, 5):
        union = np.logical_or(a[i], b[j]).sum()
        expected = np.logical_and(a[i], b[j]).sum() / union if union else 0.0
        assert iou[i, j] == pytest.approx(expected, abs=1e-12)
    assert masks_lib.mask_iou_matrix(a[:0], b).shape == (0, 5)


def nms_loop(masks, scores, iou_threshold, inside_threshold):
    order = sorted(range(len(masks)), key=lambda i: -scores[i])
    kept = []
    while order:
        i, *order = order
        kept.append(i)
        rest = []
        for j in order:
            inter = np.logical_and(masks[i], masks[j]).sum()
            union = np.logical_or(masks[i], masks[j]).sum()
            if (inter + 1e-6) / (union + 1e-6) >= iou_threshold:
                continue
            if (inter + 1e-6) / (masks[j].sum() + 1e-6) >= inside_threshold:
                continue
            rest.append(j)
        order = rest
    return kept


@pytest.mark.parametrize("width", [13, 64, 70])
def test_nms_equals_brute_force(width):
    rng = np.random.default_rng(width)
    for _ in range(10):
        masks = np.stack([random_mask(rng, 20, width) for _ in range(40)])
        scores = rng.integers(0, 12, 40) / 12  # with ties
        expected = nms_loop(masks, scores, 0.5, 0.7)
        assert masks_lib.mask_nms(masks, scores, 0.5, 0.7).tolist() == expected
        assert masks_lib.mask_nms(masks, scores, 0.5, 0.7, limit=3).tolist() == expected[:3]


def test_nms_parts_and_wholes():
    whole, part = np.zeros((2, 20, 20), bool)
    whole[2:18, 2:18] = True
    part[4:10, 4:10] = True
    masks = np.stack([whole, part])
    assert masks_lib.mask_nms(masks, np.array([0.9, 0.8]), 0.5, 0.7).tolist() == [0]
    assert masks_lib.mask_nms(masks, np.array([0.8, 0.9]), 0.5, 0.7).tolist() == [1, 0]
    masks[1, 2:16, 2:16] = True  # IoU above one half
    assert masks_lib.mask_nms(masks, np.array([0.8, 0.9]), 0.5, 0.7).tolist() == [1]
    assert masks_lib.mask_nms(masks[:0], np.zeros(0), 0.5, 0.7).tolist() == []


def test_nms_of_full_size_is_quick():
    rng = np.random.default_rng(4)
    masks = np.zeros((400, 512, 512), bool)
    for i in range(400):
        y, x = rng.integers(0, 450, 2)
        masks[i, y : y + rng.integers(8, 200), x : x + rng.integers(8, 200)] = True
    start = time.perf_counter()
    kept = masks_lib.mask_nms(masks, rng.random(400), 0.5, 0.7)
    assert 0 < len(kept) < 400
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    "counts",
    [[0, 6], [6], [0, 0, 6], [1, 0, 2, 3], [1, 2, 0, 0, 3], [0, 2, 0, 4], [2, 0, 0, 4], [1, 0, 5]],
)
def test_compressing_run_lengths_is_decoding_and_encoding_them(counts):
    rle = {"size": [2, 3], "counts": counts}
    assert masks_lib.rle_compress(rle) == masks_lib.rle_encode(masks_lib.rle_decode(rle))
    with pytest.raises(ValueError, match="sum to"):
        masks_lib.rle_compress({**rle, "size": [2, 4]})
