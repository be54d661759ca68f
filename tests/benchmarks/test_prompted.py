"""Sets for prompts: tiny copies of every layout give back the masks that they were made from."""

import functools

import numpy as np
import pytest
from layouts import write_json
from PIL import Image

from uniovseg_jax.benchmarks.benchmark import Benchmark
from uniovseg_jax.benchmarks.prompted import (
    ISHAPE_PARTS,
    PROMPTED_SETS,
    SCORED_WHOLE,
    SEGINW_PARTS,
)
from uniovseg_jax.eval.metrics.promptable import (
    GridScorer,
    OwnPromptScorer,
    PromptableScores,
    TrueMasks,
    suite_means,
)
from uniovseg_jax.masks import rle_decode

HW = (8, 10)
RING = np.zeros(HW, bool)
RING[0:5, 0:5] = True
RING[1:4, 1:4] = False
BOX = np.zeros(HW, bool)
BOX[5:8, 2:9] = True
DOT = np.zeros(HW, bool)
DOT[2, 2] = True


def flat(*boxes):
    return [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in boxes]


def runs(mask):
    """COCO's plain run lengths by a loop."""
    found, value = [0], False
    for pixel in mask.ravel("F"):
        if pixel != value:
            found.append(0)
            value = pixel
        found[-1] += 1
    return {"size": list(mask.shape), "counts": found}


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*HW, 3), np.uint8)).save(path)


def write_map(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coco(root, images, annotations, within=""):
    """Two images: a ring and a box, a crowd, an empty mask and no polygon; then no object."""
    for number in (4, 11):
        write_image(root / images / within / f"{number}.jpg")
    entries = [
        {"id": n, "file_name": f"{within}{n}.jpg", "height": HW[0], "width": HW[1]} for n in (4, 11)
    ]
    segmentations = [runs(RING), flat((2, 5, 9, 8)), runs(~RING), runs(RING & BOX), []]
    found = [
        {"id": n, "image_id": 4, "category_id": 3, "segmentation": s, "iscrowd": int(n == 2)}
        for n, s in enumerate(segmentations)
    ]
    document = {"images": entries, "annotations": found, "categories": [{"id": 3, "name": "car"}]}
    write_json(root / annotations, document)
    return {"4": [RING, BOX], "11": []}


def ids16(root, folder, maps="instance_map"):
    """A ring, what it surrounds, and a box, with numbers that differ in the upper byte only."""
    array = np.zeros(HW, np.uint16)
    array[RING], array[DOT], array[BOX] = 1, 257, 60001
    for name, number in (("0", array), ("1", np.zeros_like(array))):
        write_image(root / folder / "image" / f"{name}.jpg")
        write_map(root / folder / maps / f"{name}.png", number)
    return {"0": [RING, DOT, BOX], "1": []}


def ade20k(root):
    colours = np.zeros((*HW, 3), np.uint8)
    # The same number under two classes, a class without a number, a number without a class.
    colours[RING], colours[BOX], colours[DOT] = (5, 1, 0), (7, 1, 0), (9, 0, 0)
    colours[0, 9] = (0, 2, 0)
    write_image(root / "ADEChallengeData2016/images/validation/ADE_val_00000001.jpg")
    write_map(
        root / "ADEChallengeData2016/annotations_instance/validation/ADE_val_00000001.png", colours
    )
    return {"ADE_val_00000001": [RING, BOX]}


def egohos(root, split="train"):
    values = np.zeros(HW, np.uint8)
    values[DOT], values[RING], values[BOX] = 1, 4, 8
    values[7, 9] = 8  # One mask per value, also in two pieces.
    for name in ("ego4d_2", "epic_1", "thu_3"):
        write_image(root / f"egohos/{split}/image/{name}.jpg")
        write_map(root / f"egohos/{split}/label/{name}.png", values)
    masks = [DOT, RING, values == 8]
    return {"ego4d_2": masks, "thu_3": masks}


def streets(root):
    x, y = [2, 9, 9, 2], [5, 5, 8, 8]
    shapes = [{"name": "polygon", "all_points_x": x, "all_points_y": y}]
    regions = {str(n): {"shape_attributes": shape} for n, shape in enumerate(shapes)}
    entry = {"filename": "cam-7.jpg", "regions": regions, "size": 9}
    folder = root / "streets/vehicleannotations"
    write_image(folder / "images/cam-7.jpg")
    write_json(folder / "annotations/vehicle-annotations.json", {"cam-7.jpg9": entry})
    return {"cam-7": [BOX]}


def woodscape(root):
    def corners(x0, y0, x1, y1):
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]

    annotation = [
        {"tags": ["person"], "z_order": 3, "segmentation": corners(1, 1, 4, 4)},
        {"tags": ["road_surface"], "z_order": 1, "segmentation": corners(0, 0, 5, 5)},
        {"tags": ["curb"], "z_order": 2, "segmentation": corners(2, 5, 9, 8)},
    ]
    entry = {"image_width": HW[1], "image_height": HW[0], "annotation": annotation}
    write_image(root / "woodscape/rgb_images/00001_MVL.png")
    write_json(root / "woodscape/instance_annotations/00001_MVL.json", {"00001_MVL.json": entry})
    inner = np.zeros(HW, bool)
    inner[1:4, 1:4] = True
    return {"00001_MVL": [inner, RING, BOX]}


def ishape(root, part):
    return ids16(root, f"ishape_dataset/{part}/val")


def seginw(root, part):
    folder = f"seginw/{part}/valid"
    return coco(root, folder, f"{folder}/_annotations_min1cat.coco.json")


LAYOUTS = {
    "coco_instances": lambda root: coco(
        root, "coco/val2017", "coco/annotations/instances_val2017.json"
    ),
    "ade20k_instances": ade20k,
    "egohos": egohos,
    "timberseg": lambda root: coco(
        root, "timberseg/prescaled", "timberseg/prescaled/coco_annotation.json", "images/"
    ),
    "streets": streets,
    "ndispark": lambda root: coco(
        root, "ndispark/train/imgs", "ndispark/train/train_coco_annotations.json"
    ),
    "woodscape": woodscape,
    "pidray": lambda root: coco(root, "pidray/hard", "pidray/annotations/xray_test_hard.json"),
    "pidray_2023": lambda root: coco(
        root, "pidray_2023/hard", "pidray_2023/annotations/xray_test_hard.json"
    ),
    "trashcan": lambda root: coco(
        root,
        "trashcan/dataset/instance_version/train",
        "trashcan/dataset/instance_version/instances_train_trashcan.json",
    ),
    **{f"ishape/{part}": functools.partial(ishape, part=part) for part in ISHAPE_PARTS},
    **{f"seginw/{part}": functools.partial(seginw, part=part) for part in SEGINW_PARTS},
}


def true_masks(benchmark, image_id):
    """The masks that are scored."""
    return TrueMasks.from_rles(benchmark.read_masks(image_id), benchmark.read_sizes(image_id))


def scored_with_itself(benchmark):
    """Scores with the true masks as predictions."""
    scores = PromptableScores()
    for image_id in benchmark.images:
        truth = true_masks(benchmark, image_id)
        if not len(truth):
            continue
        quality = np.full((len(truth), 1), 0.5)
        grid = GridScorer(truth, truth.centers_xy)
        grid.add(truth.masks, quality)
        center, box = OwnPromptScorer(truth, "center"), OwnPromptScorer(truth, "box")
        center.add(truth.masks, quality)
        box.add(truth.masks, quality)
        best = grid.best | center.best | box.best
        scores.add({mode: found.iou for mode, found in best.items()})
    return scores.compute()


def assert_holds(benchmark, expected):
    assert isinstance(benchmark, Benchmark) and benchmark.tasks == ("promptable",)
    assert set(benchmark.images) == set(expected)
    for image_id, masks in expected.items():
        assert benchmark.images[image_id].is_file()
        assert benchmark.read_sizes(image_id) == HW
        truth = true_masks(benchmark, image_id)
        assert len(truth) == len(masks)
        for index, mask in enumerate(masks):
            np.testing.assert_array_equal(truth.masks.mask(index), mask)


def test_there_is_a_layout_for_every_row():
    assert set(LAYOUTS) | {"ishape", "seginw"} == set(PROMPTED_SETS)
    assert len(ISHAPE_PARTS) == 6 and len(SEGINW_PARTS) == 25
    assert set(SCORED_WHOLE) < set(PROMPTED_SETS)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_layout_gives_its_masks_and_scores_one_with_them(tmp_path, name):
    expected = LAYOUTS[name](tmp_path)
    benchmark = PROMPTED_SETS[name](tmp_path, None)
    assert benchmark.name == name
    assert_holds(benchmark, expected)
    result = scored_with_itself(benchmark)
    assert set(result) == {"grid_any", "grid_inside", "center", "center_ranked", "box"}
    for mode in result.values():
        assert mode["iou"] == mode["iou_of_images"] == 1.0
        assert mode["masks"] == sum(map(len, expected.values()))


@pytest.mark.parametrize(("suite", "parts"), [("ishape", ISHAPE_PARTS), ("seginw", SEGINW_PARTS)])
def test_a_suite_opens_all_of_its_parts_in_order(tmp_path, suite, parts):
    for part in parts:
        LAYOUTS[f"{suite}/{part}"](tmp_path)
    opened = PROMPTED_SETS[suite](tmp_path)
    assert [benchmark.name for benchmark in opened] == [f"{suite}/{part}" for part in parts]
    means = suite_means({part.name: scored_with_itself(part) for part in opened})
    assert means["box"] == {"iou": 1.0, "iou_of_images": 1.0, "datasets": len(parts)}


def test_one_missing_part_of_a_suite_is_named(tmp_path):
    for part in ISHAPE_PARTS[:-1]:
        ishape(tmp_path, part)
    with pytest.raises(FileNotFoundError, match="ishape_dataset/wire/val/image"):
        PROMPTED_SETS["ishape"](tmp_path)


@pytest.mark.parametrize(
    "file",
    ["coco_format/instances_train2017.json", "coco_format-mask_encoding=rle-instances_2017.json"],
)
def test_ishape_without_instance_maps_is_read_from_json_that_says_train(tmp_path, file):
    folder = "ishape_dataset/log/val"
    expected = coco(tmp_path, f"{folder}/image", f"{folder}/{file}")
    assert_holds(PROMPTED_SETS["ishape/log"](tmp_path, "val"), expected)


def test_ishape_in_both_forms_has_the_same_masks(tmp_path):
    expected = ishape(tmp_path / "maps", "fence")
    folder = tmp_path / "json/ishape_dataset/fence/val"
    for number in expected:
        write_image(folder / f"image/{number}.jpg")
    images = [{"id": int(n), "file_name": f"{n}.jpg", "height": 8, "width": 10} for n in expected]
    annotations = [
        {"id": 10 * int(n) + k, "image_id": int(n), "segmentation": runs(mask)}
        for n, masks in expected.items()
        for k, mask in enumerate(masks)
    ]
    document = {"images": images, "annotations": annotations}
    write_json(folder / "coco_format/instances_train2017.json", document)
    row = PROMPTED_SETS["ishape/fence"]
    for image_id in expected:
        of_maps, of_json = (
            [rle_decode(rle) for rle in row(tmp_path / form).read_masks(image_id)]
            for form in ("maps", "json")
        )
        np.testing.assert_array_equal(of_maps, of_json)


def test_streets_may_come_converted_to_coco_or_to_instance_maps(tmp_path):
    folder = "streets/vehicleannotations"
    expected = coco(tmp_path / "a", f"{folder}/images", f"{folder}/annotations/instances.json")
    assert_holds(PROMPTED_SETS["streets"](tmp_path / "a"), expected)
    expected = ids16(tmp_path / "b", folder)
    (tmp_path / "b" / folder / "image").rename(tmp_path / "b" / folder / "images")
    assert_holds(PROMPTED_SETS["streets"](tmp_path / "b"), expected)


def test_timberseg_with_the_rotated_file_only(tmp_path):
    folder = "timberseg/original"
    expected = coco(tmp_path, folder, f"{folder}/coco_annotation_rotated.json", "images/")
    assert_holds(PROMPTED_SETS["timberseg"](tmp_path, "original"), expected)


def test_other_splits_have_their_own_files(tmp_path):
    egohos(tmp_path)
    assert set(PROMPTED_SETS["egohos"](tmp_path, "train").images) == {"ego4d_2", "epic_1", "thu_3"}
    with pytest.raises(FileNotFoundError, match="egohos/val/image"):
        PROMPTED_SETS["egohos"](tmp_path, "val")
    expected = coco(
        tmp_path, "ndispark/validation/imgs", "ndispark/validation/val_coco_annotations.json"
    )
    assert_holds(PROMPTED_SETS["ndispark"](tmp_path, "val"), expected)
    expected = coco(tmp_path, "pidray/train", "pidray/annotations/xray_train.json")
    assert_holds(PROMPTED_SETS["pidray"](tmp_path, "train"), expected)


def test_a_number_of_images_that_is_not_the_published_one_is_said(tmp_path):
    LAYOUTS["pidray"](tmp_path)
    LAYOUTS["seginw/Cows"](tmp_path)
    said = PROMPTED_SETS["pidray"](tmp_path).unverified
    assert said == ("2 images were found, the published split hard has 3733.",)
    assert PROMPTED_SETS["seginw/Cows"](tmp_path).unverified == ()


@pytest.mark.parametrize("name", sorted(PROMPTED_SETS))
def test_unknown_splits_and_missing_files_are_one_sentence(tmp_path, name):
    with pytest.raises(ValueError, match="has no split 'everything'; expected one of "):
        PROMPTED_SETS[name](tmp_path, "everything")
    with pytest.raises(FileNotFoundError, match=f"There is no .*{tmp_path.name}"):
        PROMPTED_SETS[name](tmp_path)


def test_a_missing_json_beside_its_images_is_named(tmp_path):
    seginw(tmp_path, "Cows")
    path = tmp_path / "seginw/Cows/valid/_annotations_min1cat.coco.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="_annotations_min1cat.coco.json: It is no JSON"):
        PROMPTED_SETS["seginw/Cows"](tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no annotation file .*_annotations_min1cat.coco"):
        PROMPTED_SETS["seginw/Cows"](tmp_path)
