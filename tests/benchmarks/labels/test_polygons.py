"""Polygons one above the other: what is left of each is what a look from above shows."""

import json

import numpy as np
import pytest
from label_files import write_image
from pycocotools import mask as coco_mask

from uniovseg_jax.benchmarks.labels.paired_files import pair_files
from uniovseg_jax.benchmarks.labels.polygons import OrderedPolygons
from uniovseg_jax.masks import rle_decode

HW = (9, 13)


def polygon(corners, z_order, tags=("car",)):
    return {"id": "0", "tags": list(tags), "segmentation": corners, "z_order": z_order}


def rectangle(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def made(folder, annotation, **changes):
    write_image(folder / "rgb_images" / "00001_FV.png", HW)
    entry = {"image_width": HW[1], "image_height": HW[0], "annotation": annotation, **changes}
    (folder / "instance_annotations").mkdir(exist_ok=True)
    path = folder / "instance_annotations" / "00001_FV.json"
    path.write_text(json.dumps({"00001_FV.json": entry}))
    return OrderedPolygons(pair_files(folder / "rgb_images", path.parent, ".json"))


def masks_of(labels):
    return [rle_decode(rle) for rle in labels.masks("00001_FV")]


@pytest.mark.parametrize("seed", range(5))
def test_every_pixel_belongs_to_the_highest_polygon_over_it(tmp_path, seed):
    rng = np.random.default_rng(seed)
    boxes, heights = [], rng.integers(-2, 3, 12).tolist()
    for _ in heights:
        x, y = np.sort(rng.integers(0, HW[1] + 1, 2)), np.sort(rng.integers(0, HW[0] + 1, 2))
        boxes.append((x[0], y[0], x[1], y[1]))
    boxes[3] = boxes[8]
    classes = rng.choice(["car", "road_surface", "void"], len(boxes))
    annotation = [
        polygon(rectangle(*map(int, box)), height, [str(tag)])
        for box, height, tag in zip(boxes, heights, classes, strict=True)
    ]
    owner = np.full(HW, -1)
    for y, x in np.ndindex(*HW):
        over = [
            (height, index)
            for index, ((x0, y0, x1, y1), height) in enumerate(zip(boxes, heights, strict=True))
            if x0 <= x < x1 and y0 <= y < y1
        ]
        if over:  # Of equal heights the later one is above.
            owner[y, x] = max(over)[1]
    expected = [owner == index for index in range(len(boxes)) if (owner == index).any()]
    labels = made(tmp_path, annotation)
    found = masks_of(labels)
    assert 0 < len(expected) < len(boxes)
    np.testing.assert_array_equal(found, expected)
    assert labels.hw("00001_FV") == HW


def test_slanted_polygons_have_the_pixels_that_pycocotools_draws(tmp_path):
    low, high = [[0.5, 1], [12.2, 2], [6, 8.7]], [[3, -2], [9, 4], [1.5, 8]]
    flat = [[value for corner in corners for value in corner] for corners in (low, high)]
    drawn = [coco_mask.decode(rle).astype(bool) for rle in coco_mask.frPyObjects(flat, *HW)]
    assert (drawn[0] & drawn[1]).any()
    found = masks_of(made(tmp_path, [polygon(low, 1), polygon(high, 7)]))
    np.testing.assert_array_equal(found, [drawn[0] & ~drawn[1], drawn[1]])


def test_a_polygon_around_another_keeps_a_hole(tmp_path):
    big, small = polygon(rectangle(0, 0, 9, 9), 0), polygon(rectangle(3, 3, 6, 6), 1)
    outer, inner = masks_of(made(tmp_path, [small, big]))[::-1]
    assert outer.sum() == 72 and inner.sum() == 9 and not (outer & inner).any()


def test_hidden_flat_and_unclear_polygons_make_no_mask(tmp_path):
    annotation = [
        polygon(rectangle(0, 0, 4, 4), 0),
        polygon(rectangle(0, 0, 5, 5), 1),
        polygon([[1, 1], [2, 2]], 2),
        polygon([], 2),
        polygon(rectangle(0, 0, 9, 9), 5, ()),
        polygon(rectangle(0, 0, 9, 9), 5, ("car", "van")),
    ]
    (only,) = masks_of(made(tmp_path, annotation))
    assert only.sum() == 25


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("none", "'annotation' is no list of objects"),
        ([3], "'annotation' is no list of objects"),
        ([{"segmentation": [], "z_order": 0}], "An annotation has no list 'tags'"),
        ([polygon(rectangle(0, 0, 4, 4), "top")], "'z_order' is top, expected a number"),
        ([polygon([[1, 2, 3]], 0)], r"'segmentation' is no list of corners \[x, y\]"),
        ([polygon([1, 2], 0)], r"'segmentation' is no list of corners \[x, y\]"),
        ([polygon(rectangle(0, 0, 400, 4), 0)], "reaches far outside of the 9 x 13 image"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_file(tmp_path, annotation, message):
    with pytest.raises(ValueError, match=f"00001_FV.json: .*{message}"):
        made(tmp_path, annotation).masks("00001_FV")


def test_damaged_files_are_one_sentence(tmp_path):
    labels = made(tmp_path, [], image_width="wide")
    with pytest.raises(ValueError, match="00001_FV.json: 'image_width' is wide, expected a whole"):
        labels.hw("00001_FV")
    path = tmp_path / "instance_annotations" / "00001_FV.json"
    for text in ("{}", '{"a": {}, "b": {}}', "[1]", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="00001_FV.json: Expected an object with one key"):
            labels.masks("00001_FV")
    path.write_text('{"a": {"image_')
    with pytest.raises(ValueError, match="00001_FV.json: It is no JSON that can be read"):
        labels.masks("00001_FV")
    path.unlink()
    with pytest.raises(ValueError, match="00001_FV.json cannot be read: No such file"):
        labels.masks("00001_FV")
