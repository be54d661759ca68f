"""Panoptic files: what is written is read back, and what panopticapi would trip over is named."""

import json

import numpy as np
import pytest
from made_panoptic import CLASSES, random_image
from PIL import Image

from uniovseg_jax.benchmarks.segment import Segment
from uniovseg_jax.eval.files.panoptic_files import (
    PanopticFiles,
    write_panoptic_json,
    write_panoptic_map,
)

MAP = np.array([[0, 7, 7], [70_000, 70_000, 300]], np.int32)
SEGMENTS = (Segment(7, 0), Segment(300, 3, area=9), Segment(70_000, 2, iscrowd=True))


def write(folder, maps):
    entries = [
        write_panoptic_map(folder / "maps", image_id, f"{image_id}.png", ids, segments, CLASSES)
        for image_id, (ids, segments) in maps.items()
    ]
    write_panoptic_json(folder / "maps.json", entries, CLASSES)
    return PanopticFiles(folder / "maps.json")


def test_what_is_written_has_the_colours_and_ids_of_the_format(tmp_path):
    write(tmp_path, {5: (MAP, SEGMENTS)})
    pixels = np.asarray(Image.open(tmp_path / "maps" / "5.png"))
    assert pixels.shape == (2, 3, 3)
    assert pixels[1, 0].tolist() == [70_000 % 256, 70_000 // 256 % 256, 70_000 // 65536]
    (entry,) = json.loads((tmp_path / "maps.json").read_text())["annotations"]
    assert (entry["image_id"], entry["file_name"]) == (5, "5.png")
    # The data set's own ids, not ours; areas are counted where none is stated.
    assert entry["segments_info"] == [
        {"id": 7, "category_id": 1, "area": 2, "iscrowd": 0},
        {"id": 300, "category_id": 100, "area": 9, "iscrowd": 0},
        {"id": 70_000, "category_id": 90, "area": 2, "iscrowd": 1},
    ]
    assert not list(tmp_path.rglob("*.tmp*"))


def test_maps_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    maps = {f"town_{n:03}": random_image(rng)[:2] for n in range(20)}
    files = write(tmp_path, maps)
    assert files.image_ids == tuple(maps)
    assert [(c.id, c.isthing) for c in files.classes.classes] == [
        (c.id, c.isthing) for c in CLASSES.classes
    ]
    for image_id, (ids, segments) in maps.items():
        found, found_segments, path = files.read(image_id)
        np.testing.assert_array_equal(found, ids)
        assert path == tmp_path / "maps" / f"{image_id}.png"
        assert [(s.id, s.category) for s in found_segments] == [
            (s.id, s.category) for s in segments
        ]
        assert [s.area for s in found_segments] == [(ids == s.id).sum() for s in segments]


def test_an_image_without_segments_is_written_all_void(tmp_path):
    files = write(tmp_path, {1: (np.zeros((2, 3), np.int32), ())})
    ids, segments, _ = files.read(1)
    assert not ids.any() and segments == ()


@pytest.mark.parametrize(
    "segments",
    [SEGMENTS[:2], (*SEGMENTS, Segment(8, 0)), (*SEGMENTS, SEGMENTS[0])],
    ids=["unlisted", "without a pixel", "listed twice"],
)
def test_a_map_and_a_list_that_differ_are_not_written(tmp_path, segments):
    with pytest.raises(ValueError, match="do not name the same segments"):
        write_panoptic_map(tmp_path, 1, "1.png", MAP, segments, CLASSES)
    assert not list(tmp_path.iterdir())


def test_an_id_of_more_than_three_bytes_is_not_written(tmp_path):
    ids = np.full((2, 2), 1 << 24, np.int32)
    with pytest.raises(ValueError, match="from 1 to 16777215"):
        write_panoptic_map(tmp_path, 1, "1.png", ids, [Segment(1 << 24, 0)], CLASSES)


def spoil(tmp_path, change):
    path = tmp_path / "maps.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("annotations"), 'the list "annotations"'),
        (lambda d: d.pop("categories"), 'the list "categories"'),
        (lambda d: d.update(categories=[]), 'has an empty list "categories"; expected at least'),
        (lambda d: d.update(annotations=[]), 'has an empty list "annotations"; expected at leas'),
        (lambda d: d["categories"][0].pop("isthing"), r"categories\[0\]: 'isthing' is None"),
        (lambda d: d["categories"][1].update(id=1), "two categories of id 1"),
        (lambda d: d["annotations"].append(d["annotations"][0]), "two annotations of image 5"),
        (lambda d: d["annotations"][0].update(image_id=1.5), "whole number or text"),
        (lambda d: d["annotations"].append([]), r'annotations\[1\]: expected an object with "im'),
        (lambda d: d["annotations"][0].pop("file_name"), "image 5: expected a"),
        (lambda d: d["annotations"][0].update(file_name="../5.png"), "is not the name of a file"),
        (lambda d: d["annotations"][0].update(file_name="a\0"), r"image 5: 'a\\x00' cannot be"),
        (lambda d: d["annotations"][0].update(file_name="\ud800"), r"image 5: '\\ud800' cannot be"),
        (lambda d: d["annotations"][0].update(file_name="6.png"), "6.png, the map of image 5, can"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=0), "'id' is 0"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(area="9"), "'area' is 9, exp"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(area=True), "'area' is True"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(area=-4), "'area' is -4, exp"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(area=10**400), "'area' is 100"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(id=300), "300 is listed twice"),
        (lambda d: d["annotations"][0]["segments_info"][0].update(iscrowd=2), "'iscrowd' is 2"),
        (lambda d: d["annotations"][0]["segments_info"].append(3), "'id' is None"),
    ],
)
def test_a_file_of_another_form_is_one_sentence(tmp_path, change, message):
    write(tmp_path, {5: (MAP, SEGMENTS)})
    spoil(tmp_path, change)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        PanopticFiles(tmp_path / "maps.json").read(5)


def test_flags_and_areas_of_other_writers_are_understood(tmp_path):
    write(tmp_path, {5: (MAP, SEGMENTS)})

    def change(document):
        document["categories"][0]["isthing"] = True
        first, second, third = document["annotations"][0]["segments_info"]
        first.update(area=8.5, iscrowd=True)
        del second["area"], second["iscrowd"]
        third.update(area=None, iscrowd=None)

    spoil(tmp_path, change)
    files = PanopticFiles(tmp_path / "maps.json")
    assert files.classes.is_thing.tolist() == [True, True, True, False, False]
    assert files.read(5)[1] == (
        Segment(7, 0, 8.5, True),
        Segment(300, 3),
        Segment(70_000, 2),
    )


def test_of_a_prediction_only_ids_and_classes_are_read(tmp_path):
    truth = write(tmp_path, {5: (MAP, SEGMENTS)})
    odd = [("much", "no"), ([], {}), (float(2**70), 7)]

    def change(document):
        for info, (area, crowd) in zip(
            document["annotations"][0]["segments_info"], odd, strict=True
        ):
            info.update(area=area, iscrowd=crowd)
        document.pop("categories")

    spoil(tmp_path, change)
    read = PanopticFiles(tmp_path / "maps.json", classes=truth.classes).read
    assert read(5)[1] == (Segment(7, 0), Segment(300, 3), Segment(70_000, 2))
    spoil(tmp_path, lambda d: d["annotations"][0]["segments_info"][0].update(category_id=2))
    prediction = PanopticFiles(tmp_path / "maps.json", classes=truth.classes)
    with pytest.raises(ValueError, match="segment 7 has the category_id 2, which is none of the 5"):
        prediction.read(5)


def test_a_true_segment_of_no_listed_class_is_left_out(tmp_path):
    write(tmp_path, {5: (MAP, SEGMENTS)})
    spoil(tmp_path, lambda d: d["annotations"][0]["segments_info"][0].update(category_id=2))
    truth = PanopticFiles(tmp_path / "maps.json")
    ids, segments, _ = truth.read(5)
    assert [segment.id for segment in segments] == [300, 70_000] and truth.unlisted == 1
    np.testing.assert_array_equal(ids, MAP)  # Its pixels do not become void.


def test_grey_and_palette_maps_are_refused(tmp_path):
    files = write(tmp_path, {5: (MAP, SEGMENTS)})
    for mode in ("L", "P"):
        Image.fromarray(np.zeros((2, 3), np.uint8)).convert(mode).save(tmp_path / "maps" / "5.png")
        with pytest.raises(ValueError, match=r"5\.png must be a PNG file of 8-bit colours"):
            files.read(5)
    Image.fromarray(np.full((2, 3, 4), 255, np.uint8)).save(tmp_path / "maps" / "5.png")
    assert files.read(5)[0].tolist() == [[(1 << 24) - 1] * 3] * 2


def test_missing_files_and_folders_are_named(tmp_path):
    write(tmp_path, {5: (MAP, SEGMENTS)})
    with pytest.raises(FileNotFoundError, match=r"none\.json cannot be read"):
        PanopticFiles(tmp_path / "none.json", tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        PanopticFiles(tmp_path / "maps.json", tmp_path / "none")
    with pytest.raises(ValueError, match="no entry for image 6"):
        PanopticFiles(tmp_path / "maps.json").read(6)
    (tmp_path / "maps.json").write_text("{")
    with pytest.raises(ValueError, match=r"maps\.json: It is no JSON"):
        PanopticFiles(tmp_path / "maps.json")
