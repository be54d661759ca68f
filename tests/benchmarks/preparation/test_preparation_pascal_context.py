"""PASCAL Context's 459 and 59 classes, by either way."""

import json

import numpy as np
import pytest
import scipy.io
from original_files import read, read_json, run, write_jpeg

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.masks import rle_encode

# Aeroplane is 2 and bag 9, the first and the second of the 59; accordion is 1, of the 459 only.
_LABELS = np.array([[0, 1, 2, 9], [459, 458, 2, 0]], np.uint16)
_FEW = [[255, 255, 0, 1], [255, 58, 0, 255]]
_ALL = [[65535, 0, 1, 8], [458, 457, 1, 65535]]


def _write_maps(root, maps, val=None):
    folder = root / "VOCdevkit" / "VOC2010"
    (folder / "trainval").mkdir(parents=True, exist_ok=True)
    for name, labels in maps.items():
        write_jpeg(folder / "JPEGImages" / f"{name}.jpg", labels.shape)
        scipy.io.savemat(folder / "trainval" / f"{name}.mat", {"LabelMap": labels})
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_text("\n".join(val or maps))
    return folder


def _regions(labels, image_id):
    values = [value for value in np.unique(labels).tolist() if value]
    return [
        {
            "id": value,
            "image_id": image_id,
            "category_id": value,
            "segmentation": rle_encode(labels == value),
        }
        for value in values
    ]


def _write_detail(folder, images, regions):
    rows = [
        {"image_id": n, "file_name": f"{name}.jpg", "phase": phase, "height": h, "width": w}
        for n, (name, phase, (h, w)) in images.items()
    ]
    document = {"images": rows, "annos_segmentation": regions, "categories": [], "parts": []}
    (folder / "trainval_merged.json").write_text(json.dumps(document))


def _made(root, name="2008_000002"):
    folder = root / "pascal_ctx_d2"
    few = read(folder / "annotations_ctx59" / "validation" / f"{name}.png")
    full = read(folder / "annotations_ctx459" / "validation" / f"{name}.tif")
    assert few[0] == "L" and full[0] == "I;16"
    return few[1], full[1]


def test_label_maps_alone_make_both(tmp_path):
    folder = _write_maps(tmp_path, {"2008_000002": _LABELS})
    done = run("pascal_context", tmp_path, 1)
    source = "LabelMap of trainval/*.mat"
    assert done.settings == {"classes_59_from": source, "classes_459_from": source}
    few, full = _made(tmp_path)
    np.testing.assert_array_equal(few, _FEW)
    np.testing.assert_array_equal(full, _ALL)
    photo = tmp_path / "pascal_ctx_d2" / "images" / "validation" / "2008_000002.jpg"
    assert photo.read_bytes() == (folder / "JPEGImages" / "2008_000002.jpg").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_both_ways_agree_where_the_sources_do(tmp_path, seed):
    rng = np.random.default_rng(seed)
    # Few values that are of no class of the 59, so that most pixels count.
    known = [info.id for info in load_class_list("pascal_context_59").classes]
    labels = rng.choice([*known, 0, 1, 459], (8, 8)).astype(np.uint16)
    folder = _write_maps(tmp_path, {"2008_000002": labels})
    run("pascal_context", tmp_path, 1)
    by_maps = _made(tmp_path)
    _write_detail(folder, {5: ("2008_000002", "val", (8, 8))}, _regions(labels, 5))
    done = run("pascal_context", tmp_path, 1)
    assert done.settings["classes_59_from"] == "trainval_merged.json"
    assert done.written == 0 or (done.written, done.kept) == (1, 3)
    for ours, theirs in zip(_made(tmp_path), by_maps, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    record = read_json(tmp_path / "pascal_ctx_d2" / "prepared_val.json")
    assert record == {
        "images": 1,
        "classes_59_from": "trainval_merged.json",
        "classes_459_from": "LabelMap of trainval/*.mat",
    }
    index_of = load_class_list("pascal_context_59").index_of
    expected = [[index_of.get(value, 255) for value in row] for row in labels.tolist()]
    np.testing.assert_array_equal(by_maps[0], expected)


def test_later_regions_lie_on_earlier_ones(tmp_path):
    folder = _write_maps(tmp_path, {"2008_000002": _LABELS})
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :3], right[:, 2:] = True, True
    accordion = np.zeros((2, 4), bool)
    accordion[0, 0] = True
    regions = [
        {"image_id": 5, "category_id": 9, "segmentation": rle_encode(left)},
        {"image_id": 6, "category_id": 18, "segmentation": rle_encode(left)},
        # Plain run lengths, by columns.
        {"image_id": 5, "category_id": 2, "segmentation": {"size": [2, 4], "counts": [4, 4]}},
        # Of no class of the 59: void again.
        {"image_id": 5, "category_id": 1, "segmentation": rle_encode(accordion)},
    ]
    images = {6: ("2008_000003", "train", (2, 4)), 5: ("2008_000002", "val", (2, 4))}
    _write_detail(folder, images, regions)
    run("pascal_context", tmp_path, 1)
    np.testing.assert_array_equal(_made(tmp_path)[0], [[255, 1, 0, 0], [1, 1, 0, 0]])


def test_without_label_maps_there_are_59_classes_only(tmp_path):
    folder = _write_maps(tmp_path, {"2008_000002": _LABELS})
    (folder / "trainval" / "2008_000002.mat").unlink()
    (folder / "trainval").rmdir()
    with pytest.raises(FileNotFoundError, match="neither a folder .*trainval nor a file .*merged"):
        run("pascal_context", tmp_path, 1)
    _write_detail(folder, {5: ("2008_000002", "val", (2, 4))}, _regions(_LABELS, 5))
    done = run("pascal_context", tmp_path, 1)
    assert (done.written, done.settings["classes_459_from"]) == (3, None)
    assert not (tmp_path / "pascal_ctx_d2" / "annotations_ctx459").exists()


def test_the_split_is_that_of_pascal_in_detail(tmp_path):
    names = ["2008_000002", "2008_000003"]
    folder = _write_maps(tmp_path, dict.fromkeys(names, _LABELS))
    with pytest.raises(ValueError, match="has 2 images in .*, expected 5105"):
        run("pascal_context", tmp_path, None)
    run("pascal_context", tmp_path, 2)
    images = {5: (names[0], "val", (2, 4)), 6: (names[1], "train", (2, 4))}
    _write_detail(folder, images, _regions(_LABELS, 5))
    with pytest.raises(ValueError, match="has 1 images in .*, expected 5104"):
        run("pascal_context", tmp_path, None)
    # The other one would be taken for an image of the split.
    with pytest.raises(ValueError, match="2008_000003.tif is of no image of this split"):
        run("pascal_context", tmp_path, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"LabelMap": np.array([[460]], np.uint16)}, "mat holds the value 460, expected 0 to 459"),
        ({"LabelMap": np.array([[0.5]])}, "mat has no map of whole numbers called LabelMap"),
        ({"labels": np.array([[1]], np.uint16)}, "mat has no map of whole numbers"),
        (b"not MATLAB's", "mat cannot be read as a .mat file"),
        (b"", "mat cannot be read as a .mat file"),
        ({"LabelMap": np.zeros((2, 5), np.uint16)}, "jpg has 2 x 4 pixels, its labels have 2 x 5"),
    ],
)
def test_wrong_label_maps_are_named(tmp_path, content, message):
    folder = _write_maps(tmp_path, {"2008_000002": _LABELS})
    path = folder / "trainval" / "2008_000002.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        scipy.io.savemat(path, content)
    with pytest.raises(ValueError, match=message):
        run("pascal_context", tmp_path, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, 'expected an object with lists "images" and "annos_segmentation"'),
        ({"images": [{"image_id": "x"}]}, "'image_id' is x, expected a whole number"),
        (
            {"images": [{"image_id": 5, "phase": "val", "file_name": "../x.jpg"}]},
            "image 5 has no plain file_name",
        ),
        (
            {"annos_segmentation": [{"image_id": 5, "category_id": 2, "segmentation": []}]},
            "merged.json: image 2008_000002: An RLE mask must be an object",
        ),
        (
            {
                "annos_segmentation": [
                    {
                        "image_id": 5,
                        "category_id": 2,
                        "segmentation": rle_encode(np.ones((4, 2), bool)),
                    }
                ]
            },
            "image 2008_000002: A region has 4 x 2 pixels, its image 2 x 4",
        ),
    ],
)
def test_wrong_detail_files_are_named(tmp_path, change, message):
    folder = _write_maps(tmp_path, {"2008_000002": _LABELS})
    _write_detail(folder, {5: ("2008_000002", "val", (2, 4))}, _regions(_LABELS, 5))
    path = folder / "trainval_merged.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        run("pascal_context", tmp_path, 1)
