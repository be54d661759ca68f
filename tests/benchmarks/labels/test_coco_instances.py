"""COCO's instance files: the masks that pycocotools sees, and complaints that name the entry."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.benchmarks.labels.coco_instances import CocoInstances
from uniovseg_jax.masks import rle_decode, rle_encode

HEIGHT, WIDTH = 8, 11
POLYGONS = [[1.5, 1, 8.2, 2, 6, 6.7], [2, 3, 6, 3, 6, 7, 2, 7]]


def column_runs(mask):
    """Run lengths as COCO leaves them uncompressed."""
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


@pytest.fixture
def document():
    rng = np.random.default_rng(0)
    masks = rng.random((2, HEIGHT, WIDTH)) < 0.5
    annotations = [
        {"image_id": 7, "category_id": 90, "area": 31.5, "iscrowd": 0, "segmentation": POLYGONS},
        {"image_id": 7, "category_id": 1, "area": 3, "segmentation": rle_encode(masks[0])},
        {
            "image_id": 7,
            "category_id": 2,
            "area": 5,
            "iscrowd": 1,
            "segmentation": column_runs(masks[1]),
        },
    ]
    images = [
        {"id": number, "file_name": f"{number:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in (20, 7)
    ]
    return {"images": images, "annotations": annotations}, masks


def opened(tmp_path, document, classes="coco_panoptic_133"):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(document))
    return CocoInstances(path, tmp_path / "pictures", load_class_list(classes) if classes else None)


def test_instances_have_masks_indices_and_the_areas_of_the_annotation(tmp_path, document):
    coco = opened(tmp_path, document[0])
    assert list(coco.images) == ["20", "7"]
    assert coco.images["7"] == tmp_path / "pictures" / "000000000007.jpg"
    assert coco.hw("7") == (HEIGHT, WIDTH) and coco.instances("20") == ()
    found = coco.instances("7")
    # 90 is the last of COCO's things; the file's numbers have gaps.
    assert [(i.category, i.area, i.iscrowd) for i in found] == [
        (79, 31.5, False),
        (0, 3.0, False),
        (1, 5.0, True),
    ]
    drawn = coco_mask.decode(coco_mask.frPyObjects(POLYGONS, HEIGHT, WIDTH)).any(axis=-1)
    for instance, mask in zip(found, [drawn, *document[1]], strict=True):
        np.testing.assert_array_equal(rle_decode(instance.rle), mask)


def test_masks_need_no_categories_and_say_which_are_crowds(tmp_path, document):
    for entry in document[0]["annotations"]:
        entry["category_id"] = "whatever"
    empty = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    for segmentation in ([], [[1, 2, 3, 4]], empty):
        document[0]["annotations"].insert(1, {"image_id": 7, "segmentation": segmentation})
    coco = opened(tmp_path, document[0], classes=None)
    assert [bool(rle.get("iscrowd")) for rle in coco.masks("7")] == [False, False, True]
    np.testing.assert_array_equal(rle_decode(coco.masks("7")[1]), document[1][0])
    with pytest.raises(ValueError, match="opened without classes"):
        coco.instances("7")


def test_objects_without_a_usable_polygon_stay_as_empty_ones(tmp_path, document):
    first, second, third = document[0]["annotations"]
    first["segmentation"] = []
    second["segmentation"] = [[1, 2, 3, 4]]
    third["segmentation"] = [[1, 2], *POLYGONS]
    found = opened(tmp_path, document[0]).instances("7")
    assert [rle_decode(i.rle).any() for i in found] == [False, False, True]
    assert [i.area for i in found] == [31.5, 3.0, 5.0]
    drawn = coco_mask.decode(coco_mask.frPyObjects(POLYGONS, HEIGHT, WIDTH)).any(axis=-1)
    np.testing.assert_array_equal(rle_decode(found[2].rle), drawn)


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (("annotations", 1), {"category_id": 12}, r"annotations\[1\]: category_id 12 is none of"),
        (("annotations", 2), {"image_id": 8}, r"annotations\[2\]: its image 8 is not among"),
        (("images", 0), {"file_name": "../x.jpg"}, r"images\[0\]: 'file_name' is '../x.jpg'"),
        (("images", 1), {"height": 0}, r"images\[1\]: 'height' is 0"),
        (("images", 1), {"id": "20"}, r"images\[0\] and images\[1\] have the same id 20"),
    ],
)
def test_what_is_wrong_is_said_before_any_mask_is_read(tmp_path, document, place, change, message):
    document[0][place[0]][place[1]].update(change)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, document[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "an even number of finite numbers"),
        ({"segmentation": {"size": [2, 2], "counts": [4]}}, "2 x 2 pixels, its image 8 x 11"),
        ({"segmentation": None}, "must be an object"),
        ({"area": None}, "'area' is None"),
        ({"area": -1}, "'area' is -1"),
    ],
)
def test_a_bad_annotation_is_named(tmp_path, document, change, message):
    document[0]["annotations"][0].update(change)
    coco = opened(tmp_path, document[0])
    with pytest.raises(ValueError, match=rf"annotations\[0\]: .*{message}"):
        coco.instances("7")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iscrowd": "0"}, r"annotations\[1\]: 'iscrowd' is 0, expected 0 or 1"),
        ({"area": -1}, r"annotations\[1\]: 'area' is -1, expected a number of pixels"),
        ({"area": 10**400}, r"annotations\[1\]: 'area' is 1000"),
    ],
)
def test_what_an_annotation_states_is_checked(tmp_path, document, change, words):
    document[0]["annotations"][1].update(change)
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, document[0]).instances("7")
