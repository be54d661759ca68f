"""COCO's panoptic form: three bytes of ids, areas of the file, and what does not fit together."""

import json

import numpy as np
import pytest
from PIL import Image

from uniovseg_jax.benchmarks.class_list import ClassInfo, ClassList
from uniovseg_jax.benchmarks.labels import panoptic_maps
from uniovseg_jax.benchmarks.labels.panoptic_maps import PanopticMaps
from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.masks import rle_decode

CLASSES = ClassList("two", (ClassInfo(5, "cat", isthing=True), ClassInfo(200, "sky")))
IDS = np.array([[0, 65536 * 200 + 256 * 7 + 3, 7], [256, 256, 7]])
LARGE = 65536 * 200 + 256 * 7 + 3


@pytest.fixture
def document(tmp_path):
    (tmp_path / "truth").mkdir()
    channels = np.stack([IDS % 256, IDS // 256 % 256, IDS // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(channels).save(tmp_path / "truth" / "first.png")
    infos = [
        {"id": LARGE, "category_id": 5, "area": 1, "iscrowd": 0},
        {"id": 256, "category_id": 200, "area": 40, "iscrowd": 0},
        {"id": 7, "category_id": 5, "area": 2, "iscrowd": 1},
        # Hidden by others, and still to be found.
        {"id": 9, "category_id": 5, "area": 3, "iscrowd": 0},
    ]
    return {
        "images": [{"id": "one", "file_name": "no_such_image.jpg", "height": 2, "width": 3}],
        "annotations": [{"image_id": "one", "file_name": "first.png", "segments_info": infos}],
    }


def opened(tmp_path, document):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(document))
    return PanopticMaps(path, CLASSES)


def test_ids_areas_crowds_and_classes(tmp_path, document):
    maps = opened(tmp_path, document)
    ids, segments = maps.read("one")
    np.testing.assert_array_equal(ids, IDS)
    assert segments == (
        Segment(LARGE, 0, 1),
        Segment(256, 1, 40),
        Segment(7, 0, 2, iscrowd=True),
        Segment(9, 0, 3),
    )
    assert maps.semantic("one").tolist() == [[-1, 0, 0], [1, 1, 0]]
    assert maps.hw("one") == (2, 3)
    assert maps.file_names == {"one": "no_such_image.jpg"}


def test_instances_are_the_things_that_can_be_seen(tmp_path, document):
    found = opened(tmp_path, document).instances("one")
    assert [(i.category, i.area, i.iscrowd) for i in found] == [(0, 1.0, False), (0, 2.0, True)]
    np.testing.assert_array_equal(rle_decode(found[1].rle), IDS == 7)


def test_a_map_is_decoded_once_for_all_tasks_and_cannot_be_changed(tmp_path, document, monkeypatch):
    maps, read = opened(tmp_path, document), []
    real = panoptic_maps.read_panoptic_png
    monkeypatch.setattr(
        panoptic_maps, "read_panoptic_png", lambda path: read.append(path) or real(path)
    )
    ids, _ = maps.read("one")
    assert len(maps.instances("one")) == 2 and maps.semantic("one").shape == ids.shape
    assert len(read) == 1
    with pytest.raises(ValueError, match="read-only"):
        ids[0, 0] = 1


def test_instances_of_random_maps_are_those_of_plain_comparisons(tmp_path):
    rng = np.random.default_rng(0)
    ids = np.kron(rng.integers(0, 6, (5, 7)), np.ones((3, 2), int)) * 1000
    (tmp_path / "truth").mkdir()
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(channels).save(tmp_path / "truth" / "a.png")
    infos = [
        {"id": n * 1000, "category_id": 200 if n == 3 else 5, "area": 1, "iscrowd": 0}
        for n in (5, 1, 2, 3, 4, 9)
    ]
    annotation = {"image_id": 7, "file_name": "a.png", "segments_info": infos}
    maps = opened(tmp_path, {"images": [{"id": 7}], "annotations": [annotation]})
    masks = [rle_decode(instance.rle) for instance in maps.instances("7")]
    expected = [ids == n * 1000 for n in (5, 1, 2, 4)]
    np.testing.assert_array_equal(masks, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"].clear(), "no annotation of its image one"),
        (
            lambda d: d["annotations"].append(d["annotations"][0]),
            "a second annotation of image one",
        ),
        (lambda d: d["annotations"][0].update(image_id="two"), "two is not among the images"),
        (lambda d: d["annotations"][0].update(file_name="../a.png"), "a plain file_name"),
        (lambda d: infos(d)[0].update(category_id=0), "category_id 0 is none of the 2 two"),
        (lambda d: infos(d)[0].update(id=256), "two of its segments have the same id"),
        (lambda d: infos(d)[0].update(id=1 << 24), "'id' is 16777216"),
        (lambda d: infos(d)[0].update(id=0), "'id' is 0"),
        (lambda d: infos(d)[0].pop("area"), "'area' is None"),
        (lambda d: d["images"][0].update(id=None), r"images\[0\]: 'id' is None"),
    ],
)
def test_what_is_wrong_with_the_file_is_said_when_it_is_opened(tmp_path, document, change, message):
    change(document)
    with pytest.raises(ValueError, match=rf"truth\.json.*{message}"):
        opened(tmp_path, document)


def infos(document):
    return document["annotations"][0]["segments_info"]


def test_a_stated_area_of_zero_needs_an_empty_segment(tmp_path, document):
    infos = document["annotations"][0]["segments_info"]
    infos[3]["area"] = 0  # Which no pixel is left of.
    assert opened(tmp_path, document).read("one")[1][3].area == 0
    infos[1]["area"] = 0
    expected = (
        r"truth.json states an area of 0 for the segment 256, which has 2 pixels in .*first.png"
    )
    with pytest.raises(ValueError, match=expected):
        opened(tmp_path, document).read("one")


def test_png_files_that_do_not_fit(tmp_path, document):
    del infos(document)[1]
    with pytest.raises(ValueError, match=r"first\.png holds the segment 256, which truth\.json"):
        opened(tmp_path, document).semantic("one")
    # Ids that were shown as a grey picture have lost two bytes.
    Image.fromarray(IDS.astype(np.uint8)).save(tmp_path / "truth" / "first.png")
    with pytest.raises(ValueError, match="8-bit colours"):
        opened(tmp_path, document).read("one")
    (tmp_path / "truth" / "first.png").unlink()
    with pytest.raises(ValueError, match=r"first\.png cannot be read"):
        opened(tmp_path, document).read("one")
    (tmp_path / "truth").rmdir()
    with pytest.raises(FileNotFoundError, match="no folder truth"):
        opened(tmp_path, document)
