"""ADE20K's shifted labels, panoptic and instance forms."""

import numpy as np
import pytest
from original_files import read, read_ids, read_json, run, write_jpeg, write_png

from uniovseg_jax.benchmarks.class_list import load_class_list
from uniovseg_jax.masks import rle_decode

# Wall is 1, sky 3, flag 150 (a thing); bed is 8 and windowpane 9, of kinds 1 and 2.
_SEMANTIC = np.array(
    [
        [1, 1, 3, 0],
        [1, 8, 3, 3],
        [8, 8, 9, 150],
    ],
    np.uint8,
)
# Instance 5 is a bed, also where the semantic map says wall; 2 a windowpane that covers all sky.
_KINDS = np.array([[0, 1, 2, 0], [0, 1, 2, 2], [1, 1, 0, 100]], np.uint8)
_NUMBERS = np.array([[0, 5, 2, 0], [0, 5, 2, 2], [5, 5, 0, 0]], np.uint8)


def _write(root, images, split="val"):
    folder, long = root / "ADEChallengeData2016", {"val": "validation", "train": "training"}[split]
    for name, (semantic, kinds, numbers) in images.items():
        write_jpeg(folder / "images" / long / f"{name}.jpg", semantic.shape)
        write_png(folder / "annotations" / long / f"{name}.png", semantic)
        pairs = np.stack([kinds, numbers, np.full_like(kinds, 77)], axis=-1)
        write_png(folder / "annotations_instance" / long / f"{name}.png", pairs)
    return folder


@pytest.fixture
def folder(tmp_path):
    return _write(tmp_path, {"ADE_val_00000007": (_SEMANTIC, _KINDS, _NUMBERS)})


def test_labels_wrap_around_to_void(tmp_path, folder):
    run("ade20k", tmp_path, 1)
    mode, made = read(folder / "annotations_detectron2" / "validation" / "ADE_val_00000007.png")
    assert mode == "L"
    np.testing.assert_array_equal(made, [[0, 0, 2, 255], [0, 7, 2, 2], [7, 7, 8, 149]])


def test_instances_are_pasted_on_stuff_whose_areas_were_counted_before(tmp_path, folder):
    run("ade20k", tmp_path, 1)
    document = read_json(folder / "ade20k_panoptic_val.json")
    assert document["images"] == [
        {"id": "ADE_val_00000007", "file_name": "ADE_val_00000007.jpg", "width": 4, "height": 3}
    ]
    (annotation,) = document["annotations"]
    assert annotation == {
        "image_id": "ADE_val_00000007",
        "file_name": "ADE_val_00000007.png",
        "segments_info": [
            {"id": 1, "category_id": 0, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0},
            # Nothing is left of it, and still it is listed as it was.
            {"id": 2, "category_id": 2, "area": 3, "bbox": [2, 0, 2, 2], "iscrowd": 0},
            {"id": 3, "category_id": 8, "area": 3, "bbox": [2, 0, 2, 2], "iscrowd": 0},
            {"id": 4, "category_id": 7, "area": 4, "bbox": [0, 0, 2, 3], "iscrowd": 0},
        ],
    }
    # Void: unlabelled, a window and a flag without an instance.
    ids = read_ids(folder / "ade20k_panoptic_val" / "ADE_val_00000007.png")
    np.testing.assert_array_equal(ids, [[1, 4, 3, 0], [1, 4, 3, 3], [4, 4, 0, 0]])


def test_instances_have_the_same_categories(tmp_path, folder):
    _write(tmp_path, {"ADE_val_00000009": (_SEMANTIC, _KINDS, _NUMBERS)})
    run("ade20k", tmp_path, 2)
    document = read_json(folder / "ade20k_instance_val.json")
    assert [row["id"] for row in document["annotations"]] == [1, 2, 3, 4]
    assert [row["image_id"][-1] for row in document["annotations"]] == ["7", "7", "9", "9"]
    window, bed = document["annotations"][:2]
    assert (window["category_id"], window["area"], window["bbox"]) == (8, 3, [2, 0, 2, 2])
    assert (bed["category_id"], bed["area"], bed["iscrowd"]) == (7, 4, 0)
    np.testing.assert_array_equal(rle_decode(bed["segmentation"]), _NUMBERS == 5)
    assert len(document["categories"]) == 100
    assert document["categories"][0] == {"id": 7, "name": "bed"}
    categories = read_json(folder / "ade20k_panoptic_val.json")["categories"]
    assert [row["id"] for row in categories] == list(range(150))
    assert sum(row["isthing"] for row in categories) == 100
    assert categories[7]["name"] == "bed" and categories[7]["isthing"] == 1


@pytest.mark.parametrize("seed", range(4))
def test_random_maps_against_brute_force(tmp_path, seed):
    rng = np.random.default_rng(seed)
    classes = load_class_list("ade20k_150").classes
    semantic = rng.integers(0, 151, (8, 8)).astype(np.uint8)
    numbers = rng.choice([0, 0, 0, 1, 2, 3, 200, 255], (8, 8)).astype(np.uint8)
    kind_of = {0: 0, **{n: int(rng.integers(1, 101)) for n in (1, 2, 3, 200, 255)}}
    kinds = np.vectorize(kind_of.get)(numbers).astype(np.uint8)
    name = "ADE_val_00000001"
    folder = _write(tmp_path, {name: (semantic, kinds, numbers)})
    run("ade20k", tmp_path, 1)
    infos = read_json(folder / "ade20k_panoptic_val.json")["annotations"][0]["segments_info"]
    assert len({info["id"] for info in infos}) == len(infos)
    category_of = {info["id"]: info["category_id"] for info in infos}
    ids = read_ids(folder / "ade20k_panoptic_val" / f"{name}.png")
    for (row, column), number in np.ndenumerate(numbers):
        label, found = int(semantic[row, column]), int(ids[row, column])
        if number:
            assert classes[category_of[found]].instance_id == kind_of[int(number)]
        elif label and not classes[label - 1].isthing:
            assert category_of[found] == label - 1
        else:
            assert found == 0
    stuff = {n: (semantic == n).sum() for n in range(1, 151) if not classes[n - 1].isthing}
    areas = [n for n in stuff.values() if n] + [
        (numbers == n).sum() for n in (1, 2, 3, 200, 255) if (numbers == n).any()
    ]
    assert [info["area"] for info in infos] == areas
    # Segments are told apart exactly where numbers are.
    pairs = set(zip(ids.ravel().tolist(), numbers.ravel().tolist(), strict=True))
    assert len({pair for pair in pairs if pair[1]}) == len(np.unique(numbers[numbers > 0]))


def _change(part, pixels):
    return lambda folder: write_png(folder / part / "validation" / "ADE_val_00000007.png", pixels)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_change("annotations", np.full((3, 4), 151, np.uint8)), "holds the value 151, expected 0"),
        (_change("annotations", np.ones((3, 5), np.uint8)), "jpg has 3 x 4 pixels, its labels"),
        (
            _change("annotations_instance", np.ones((3, 5, 3), np.uint8)),
            "annotations_instance/.*png has 3 x 5 pixels, its labels have 3 x 4",
        ),
        (
            _change("annotations_instance", np.full((3, 4, 3), 101, np.uint8)),
            r"instance 101 has the classes \[101\], expected one from 1 to 100",
        ),
        (
            _change("annotations_instance", np.dstack([_KINDS, np.full_like(_KINDS, 3), _KINDS])),
            r"instance 3 has the classes \[0, 1, 2, 100\], expected one",
        ),
        (_change("annotations_instance", _KINDS), "mode L, expected a PNG file of 8-bit colours"),
    ],
)
def test_wrong_files_are_named(tmp_path, folder, damage, message):
    damage(folder)
    with pytest.raises(ValueError, match=message):
        run("ade20k", tmp_path, 1)


@pytest.mark.parametrize("part", ["images", "annotations", "annotations_instance"])
def test_an_image_that_lacks_a_file_is_named(tmp_path, folder, part):
    _write(tmp_path, {"ADE_val_00000001": (_SEMANTIC, _KINDS, _NUMBERS)})
    path = next((folder / part / "validation").glob("*1.*"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no file {path}"):
        run("ade20k", tmp_path, 1)


def test_the_training_split_has_its_own_files(tmp_path):
    name = "ADE_train_00000001"
    folder = _write(tmp_path, {name: (_SEMANTIC, _KINDS, _NUMBERS)}, "train")
    run("ade20k", tmp_path, 1, split="train")
    assert (folder / "annotations_detectron2" / "training" / f"{name}.png").is_file()
    assert (folder / "ade20k_panoptic_train" / f"{name}.png").is_file()
    assert (folder / "ade20k_instance_train.json").is_file()
