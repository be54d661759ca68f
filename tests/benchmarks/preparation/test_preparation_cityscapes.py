"""Cityscapes' train ids and panoptic form, against the rules of its scripts written out."""

import numpy as np
import pytest
from original_files import read, read_ids, read_json, run, write_png

# Of labels.py: id and train id of what is evaluated; things among them.
_TRAIN_IDS = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
_TRAIN_IDS |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
_THINGS = {24, 25, 26, 27, 28, 31, 32, 33}


def _write(root, frames, split="val"):
    for frame, instances in frames.items():
        city = frame.split("_")[0]
        labels = np.where(instances < 1000, instances, instances // 1000).astype(np.uint8)
        rgb = np.zeros((*labels.shape, 3), np.uint8)
        write_png(root / "cityscapes/leftImg8bit" / split / city / f"{frame}_leftImg8bit.png", rgb)
        folder = root / "cityscapes/gtFine" / split / city
        write_png(folder / f"{frame}_gtFine_labelIds.png", labels)
        write_png(folder / f"{frame}_gtFine_instanceIds.png", instances.astype(np.uint16))
        write_png(folder / f"{frame}_gtFine_color.png", rgb)
        (folder / f"{frame}_gtFine_polygons.json").write_text("{}")


def _by_the_rules(instances):
    """csCreatePanopticImgs without train ids, pixel by pixel."""
    ids, segments = np.zeros(instances.shape, int), {}
    for (row, column), number in np.ndenumerate(instances):
        label = number if number < 1000 else number // 1000
        if label not in _TRAIN_IDS:
            continue
        ids[row, column] = number
        pixels = segments.setdefault(int(number), [])
        pixels.append((row, column))
    infos = []
    for number, pixels in sorted(segments.items()):
        rows, columns = np.transpose(pixels)
        label = number if number < 1000 else number // 1000
        infos.append(
            {
                "id": number,
                "category_id": label,
                "area": len(pixels),
                "bbox": [
                    columns.min(),
                    rows.min(),
                    columns.max() - columns.min() + 1,
                    rows.max() - rows.min() + 1,
                ],
                "iscrowd": int(number < 1000 and label in _THINGS),
            }
        )
    return ids, infos


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(3)
    # Every plain label, instances of evaluated and other things, and a number beyond 16 bits / 2.
    values = np.array([*range(34), 24000, 24001, 26003, 29001, 30002, 33017, 33999])
    return {
        name: rng.choice(values, (8, 9))
        for name in ("lindau_000001_000019", "frankfurt_000000_000294", "lindau_000000_000019")
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, frames):
    root = tmp_path_factory.mktemp("root")
    _write(root, frames)
    done = run("cityscapes", root, 3)
    assert (done.written, done.kept) == (8, 0)
    return root / "cityscapes" / "gtFine"


def test_every_pixel_and_segment_follows_the_rules(prepared, frames):
    document = read_json(prepared / "cityscapes_panoptic_val.json")
    annotations = {row["image_id"]: row for row in document["annotations"]}
    assert annotations.keys() == frames.keys()
    crowds = 0
    for frame, instances in frames.items():
        ids, infos = _by_the_rules(instances)
        path = prepared / "cityscapes_panoptic_val" / annotations[frame]["file_name"]
        np.testing.assert_array_equal(read_ids(path), ids)
        assert annotations[frame]["segments_info"] == infos
        crowds += sum(info["iscrowd"] for info in infos)
    assert crowds > 0


def test_names_and_categories_are_those_of_the_official_script(prepared, frames):
    document = read_json(prepared / "cityscapes_panoptic_val.json")
    images = document["images"]
    assert [row["id"] for row in images] == [
        "frankfurt_000000_000294",
        "lindau_000000_000019",
        "lindau_000001_000019",
    ]
    assert images[0] == {
        "id": "frankfurt_000000_000294",
        "file_name": "frankfurt_000000_000294_gtFine_leftImg8bit.png",
        "height": 8,
        "width": 9,
    }
    name = "frankfurt_000000_000294_gtFine_panoptic.png"
    assert document["annotations"][0]["file_name"] == name
    categories = document["categories"]
    assert [row["id"] for row in categories] == list(_TRAIN_IDS)
    assert {row["id"] for row in categories if row["isthing"] == 1} == _THINGS
    assert categories[0] == {
        "id": 7,
        "name": "road",
        "color": [128, 64, 128],
        "supercategory": "flat",
        "isthing": 0,
    }
    groups = [row["supercategory"] for row in categories]
    assert groups == (
        ["flat"] * 2 + ["construction"] * 3 + ["object"] * 3 + ["nature"] * 2 + ["sky"]
    ) + (["human"] * 2 + ["vehicle"] * 6)


def test_train_ids_of_every_pixel(prepared, frames):
    for frame, instances in frames.items():
        path = prepared / "val" / frame.split("_")[0] / f"{frame}_gtFine_labelTrainIds.png"
        mode, train_ids = read(path)
        assert mode == "L"
        labels = np.where(instances < 1000, instances, instances // 1000)
        expected = [[_TRAIN_IDS.get(label, 255) for label in row] for row in labels.tolist()]
        np.testing.assert_array_equal(train_ids, expected)


def test_the_training_split_has_its_own_files(tmp_path, frames):
    _write(tmp_path, {"aachen_000000_000019": frames["lindau_000000_000019"]}, "train")
    run("cityscapes", tmp_path, 1, split="train")
    assert (tmp_path / "cityscapes/gtFine/cityscapes_panoptic_train.json").is_file()
    with pytest.raises(FileNotFoundError, match="no folder .*leftImg8bit/val"):
        run("cityscapes", tmp_path, 1)


@pytest.mark.parametrize("missing", ["leftImg8bit", "gtFine_labelIds", "gtFine_instanceIds"])
def test_a_frame_that_lacks_a_file_is_named(tmp_path, frames, missing):
    _write(tmp_path, frames)
    path = next((tmp_path / "cityscapes").rglob(f"lindau_000001*_{missing}.png"))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"There is no file .*{path.name}"):
        run("cityscapes", tmp_path, 2)


def test_wrong_labels_and_sizes_are_named(tmp_path, frames):
    frame = "lindau_000001_000019"
    _write(tmp_path, {frame: frames[frame]})
    folder = tmp_path / "cityscapes/gtFine/val/lindau"
    write_png(folder / f"{frame}_gtFine_instanceIds.png", np.full((8, 9), 34000, np.uint16))
    with pytest.raises(ValueError, match=r"instanceIds.png holds the value 34000, expected 0 to"):
        run("cityscapes", tmp_path, 1)
    write_png(folder / f"{frame}_gtFine_instanceIds.png", np.full((4, 9), 7, np.uint16))
    with pytest.raises(ValueError, match="instanceIds.png has 4 x 9 pixels, its labels have 8 x 9"):
        run("cityscapes", tmp_path, 1)
