"""COCO is checked, not changed."""

import json

import numpy as np
import pytest
from original_files import run, write_jpeg, write_png

_IDS = np.array([[0, 1, 1, 70000], [256, 256, 1, 70000], [0, 0, 0, 70000]])


@pytest.fixture
def folder(tmp_path):
    """COCO with two images in `tmp_path`."""
    folder = tmp_path / "coco"
    images, annotations = [], []
    for number in (139, 285):
        name = f"{number:012d}"
        write_jpeg(folder / "val2017" / f"{name}.jpg", _IDS.shape)
        rgb = np.stack([_IDS % 256, _IDS // 256 % 256, _IDS // 65536], axis=-1)
        write_png(folder / "panoptic_val2017" / f"{name}.png", rgb.astype(np.uint8))
        images.append({"id": number, "file_name": f"{name}.jpg", "height": 3, "width": 4})
        infos = [{"id": n, "category_id": 1, "iscrowd": 0} for n in (1, 256, 70000)]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": infos})
    (folder / "annotations").mkdir()
    _write(folder, "instances", {"images": images, "annotations": []})
    _write(folder, "panoptic", {"images": images, "annotations": annotations})
    return folder


def _write(folder, kind, document):
    (folder / "annotations" / f"{kind}_val2017.json").write_text(json.dumps(document))


def _read(folder, kind):
    return json.loads((folder / "annotations" / f"{kind}_val2017.json").read_text())


def test_what_fits_is_left_as_it_is(tmp_path, folder):
    before = sorted(tmp_path.rglob("*"))
    done = run("coco", tmp_path, 2)
    assert (done.images, done.written, done.kept) == (2, 0, 0)
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(ValueError, match="coco val has 2 images in .*, expected 5000"):
        run("coco", tmp_path, None)


def test_images_that_the_list_does_not_know_are_named(tmp_path, folder):
    write_jpeg(folder / "val2017" / "000000000001.jpg", (2, 2))
    with pytest.raises(ValueError, match="000000000001.jpg is no image of .*panoptic_val2017.json"):
        run("coco", tmp_path, 2)


@pytest.mark.parametrize("path", ["val2017/000000000285.jpg", "panoptic_val2017/000000000285.png"])
def test_a_missing_file_is_named(tmp_path, folder, path):
    (folder / path).unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no file .*{path}"):
        run("coco", tmp_path, 2)


@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_a_missing_list_is_named(tmp_path, folder, kind):
    (folder / "annotations" / f"{kind}_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no annotation file .*{kind}_val2017"):
        run("coco", tmp_path, 2)


def test_the_folder_of_the_inner_archive_is_asked_for(tmp_path, folder):
    (folder / "panoptic_val2017").rename(folder / "elsewhere")
    with pytest.raises(FileNotFoundError, match="There is no folder .*panoptic_val2017"):
        run("coco", tmp_path, 2)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.where(_IDS == 256, 0, _IDS), "000000000285.png and its .* differ in segment 256"),
        (np.where(_IDS == 0, 3, _IDS), "000000000285.png and its .* differ in segment 3"),
        (_IDS[:2], "285.jpg has 3 x 4 pixels, its labels have 2 x 4"),
    ],
)
def test_segments_that_do_not_fit_their_list_are_named(tmp_path, folder, ids, message):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    write_png(folder / "panoptic_val2017" / "000000000285.png", rgb)
    with pytest.raises(ValueError, match=message):
        run("coco", tmp_path, 2)


def _duplicate(document):
    document["annotations"][1]["segments_info"][2]["id"] = 1


def _unknown(document):
    document["annotations"][1]["segments_info"][2]["category_id"] = 12


def _drop(document):
    del document["annotations"][1]


def _other_size(document):
    document["images"][1]["width"] = 5


def test_sizes_that_differ_from_the_lists_are_named(tmp_path, folder):
    for kind in ("instances", "panoptic"):
        document = _read(folder, kind)
        _other_size(document)
        _write(folder, kind, document)
    with pytest.raises(ValueError, match="285.png has 3 x 4 pixels, its list says 3 x 5"):
        run("coco", tmp_path, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_duplicate, "image 285: a segment is listed twice"),
        (_unknown, "image 285: its segment 70000 is of no class: 12"),
        (_drop, "image 285: it has 0 annotations, expected one"),
        (_other_size, "do not say the same of image 285"),
    ],
)
def test_wrong_lists_are_named(tmp_path, folder, change, message):
    document = _read(folder, "panoptic")
    change(document)
    _write(folder, "panoptic", document)
    with pytest.raises(ValueError, match=message):
        run("coco", tmp_path, 2)
