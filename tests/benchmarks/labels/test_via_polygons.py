"""Polygons of the VGG Image Annotator: both forms of its file, whole polygons, no other shapes."""

import json

import numpy as np
import pytest
from label_files import write_image

from uniovseg_jax.benchmarks.labels.via_polygons import ViaPolygons
from uniovseg_jax.masks import rle_decode

HW = (9, 13)


def region(x, y, name="polygon"):
    shape = {"name": name, "all_points_x": x, "all_points_y": y}
    return {"shape_attributes": shape, "region_attributes": {"vehicle_type": "car"}}


def made(folder, regions, name="cam-1.jpg"):
    write_image(folder / "images" / "cam-1.jpg", HW)
    entry = {"fileref": "", "size": 12, "filename": name, "regions": regions}
    (folder / "via.json").write_text(json.dumps({f"{name}12": entry}))
    return ViaPolygons(folder / "via.json", folder / "images")


REGIONS = [
    region([0, 6, 6, 0], [0, 0, 6, 6]),
    region([3, 9, 9, 3], [3, 3, 8, 8]),
    region([1, 2], [1, 2]),
    region([-3, 2, 2, -3], [-2, -2, 1, 1]),
    region([-5, -2, -2, -5], [0, 0, 4, 4]),
    {"shape_attributes": {"name": "rect", "x": 1, "y": 1, "width": 3, "height": 3}},
]


@pytest.mark.parametrize("as_object", [False, True])
def test_every_polygon_with_a_pixel_is_a_mask_and_hides_nothing(tmp_path, as_object):
    regions = {str(n): entry for n, entry in enumerate(REGIONS)} if as_object else REGIONS
    labels = made(tmp_path, regions)
    expected = np.zeros((3, *HW), bool)
    expected[0, :6, :6] = expected[1, 3:8, 3:9] = expected[2, :1, :2] = True
    found = [rle_decode(rle) for rle in labels.masks("cam-1")]
    np.testing.assert_array_equal(found, expected)
    assert labels.hw("cam-1") == HW and list(labels.images) == ["cam-1"]


def test_images_and_entries_have_to_be_the_same(tmp_path):
    with pytest.raises(ValueError, match="cam-1 is either in .*via.json or in .*images; expected"):
        made(tmp_path, [], "cam-2.jpg")
    entry = {"filename": "cam-1.jpg", "regions": []}
    (tmp_path / "via.json").write_text(json.dumps({"a": entry, "b": entry}))
    with pytest.raises(ValueError, match="via.json has two entries for cam-1"):
        ViaPolygons(tmp_path / "via.json", tmp_path / "images")


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([3], "It has no object 'shape_attributes'"),
        ([region([1, 2, 3], [1, 2])], "'all_points_x' and 'all_points_y' must be as many finite"),
        ([region([1, 2, "3"], [1, 2, 3])], "'all_points_x' and 'all_points_y' must be as many"),
        ([region([1, 999, 3], [1, 2, 3])], "reaches far outside of the 9 x 13 image"),
    ],
)
def test_what_is_wrong_is_one_sentence_with_its_place(tmp_path, regions, message):
    with pytest.raises(ValueError, match=f"via.json: cam-1, region 0: .*{message}"):
        made(tmp_path, regions).masks("cam-1")


def test_other_files_are_refused_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no annotation file .*nowhere.json"):
        ViaPolygons(tmp_path / "nowhere.json", tmp_path)
    for document in ([], {"a": 1}, {"a": {"filename": "../x.jpg", "regions": []}}):
        (tmp_path / "via.json").write_text(json.dumps(document))
        with pytest.raises(ValueError, match="via.json: expected an object of entries with"):
            ViaPolygons(tmp_path / "via.json", tmp_path)
    (tmp_path / "via.json").write_text("{")
    with pytest.raises(ValueError, match="via.json: It is no JSON that can be read"):
        ViaPolygons(tmp_path / "via.json", tmp_path)
