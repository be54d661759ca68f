"""COCO's annotation files: the masks that pycocotools sees, and nothing that it would choke on."""

import copy
import json

import numpy as np
import pytest
from mask_files import HW, blob, encode, picture, run, skipped_names, write_json
from pycocotools import mask as coco_mask

from uniovseg_jax.data import coco_file
from uniovseg_jax.data.mask_records import open_mask_records
from uniovseg_jax.data.mask_sources import coco
from uniovseg_jax.data.mask_sources.sampling import Sample
from uniovseg_jax.data.mask_sources.source import Skipped
from uniovseg_jax.masks import rle_decode, rle_encode

HEIGHT, WIDTH = HW
POLYGONS = [[1.5, 1, 9.2, 2, 6, 8.7], [10, 3, 16, 3, 16, 11, 10, 11]]


def runs_of(mask):
    """COCO's uncompressed run lengths, by a loop."""
    runs, value = [0], False
    for pixel in mask.ravel("F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def image_entry(number):
    name = f"{number:012d}.jpg"
    return {"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH}


def decoded(directory):
    records = open_mask_records(directory)
    return {
        record["id"]: [rle_decode(mask) for mask in record["masks"]]
        for record in (records[index] for index in range(len(records)))
    }


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in (7, 3, 20):
        (folder / f"{number:012d}.jpg").write_bytes(picture(rng))
    return folder


@pytest.fixture
def instances():
    rng = np.random.default_rng(1)
    masks = [blob(rng) for _ in range(3)]
    segmentations = [POLYGONS, POLYGONS[:1], runs_of(masks[0]), rle_encode(masks[1])]
    annotations = [
        {"id": index, "image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": entry}
        for index, (image, entry) in enumerate(zip((7, 3, 7, 20), segmentations, strict=True))
    ]
    crowd = {"id": 9, "image_id": 3, "iscrowd": 1, "segmentation": runs_of(masks[2])}
    entries = [image_entry(number) for number in (7, 3, 20)]
    return {"images": entries, "annotations": [*annotations, crowd]}, masks


def convert_instances(images, path, output, **options):
    return run(coco.CocoMasks(images, path, Sample(), "coco_instances"), output, **options)


def test_instances_have_the_pixels_that_pycocotools_draws(tmp_path, images, instances):
    document, masks = instances
    path = write_json(tmp_path / "instances.json", document)
    manifest = convert_instances(images, path, tmp_path / "out")
    assert manifest.dropped_masks == {"crowd": 1} and manifest.num_masks == 4
    drawn = [coco_mask.decode(coco_mask.frPyObjects([p], *HW))[..., 0] for p in POLYGONS]
    expected = {"7": [drawn[0] | drawn[1], masks[0]], "3": [drawn[0]], "20": [masks[1]]}
    found = decoded(tmp_path / "out")
    assert list(found) == list(expected)
    for image_id, arrays in expected.items():
        np.testing.assert_array_equal(found[image_id], np.array(arrays, bool))


def test_polygons_without_pycocotools_are_one_sentence(tmp_path, images, instances, monkeypatch):
    path = write_json(tmp_path / "instances.json", instances[0])
    monkeypatch.setattr(coco_file.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="holds polygons, which pycocotools draws"):
        convert_instances(images, path, tmp_path / "out")


@pytest.mark.parametrize(
    ("polygons", "message"),
    [
        ([[1, 2, 3, 4, 5, 6, 7]], "even number"),
        ([[1, 2, 3, 4, 5, "6"]], "finite numbers"),
        ([[1, 2, 3, 4, 5, 1e308]], "far outside"),
        ([[1, 2, 3, 4, 5, 10**400]], "far outside"),
        ([[1, 2, 3, 4, 5, None]], "finite numbers"),
        (["123456"], "finite numbers"),
        ([[1, "2"]], "finite numbers"),
        ([[1, 1e308]], "far outside"),
        # Up and down the image, 10 pixels at a time, in one polygon and in many.
        ([[0, 0, 0, 10] * 50_001], "an outline of 1000020 pixels, more than 1000000"),
        ([[0, 0, 9, 1, 9, 1]] * 55_556, "an outline of 1000008 pixels"),
    ],
)
def test_bad_polygons_never_reach_c_code(tmp_path, images, instances, polygons, message):
    document = copy.deepcopy(instances[0])
    document["annotations"][0]["segmentation"] = polygons
    path = write_json(tmp_path / "instances.json", document)
    convert_instances(images, path, tmp_path / "out", max_skipped=1.0)
    (entry,) = skipped_names(tmp_path / "out")
    assert entry["reason"] == "bad annotation"
    assert entry["name"] == "instances.json: images[0] (000000000007.jpg)"
    assert "annotations[0]" in entry["detail"] and message in entry["detail"]


def test_polygons_of_fewer_than_three_corners_are_dropped(tmp_path, images, instances):
    document = copy.deepcopy(instances[0])
    triangle = [1, 1, 8.5, 2, 3, 6]
    document["annotations"] = [
        {"id": i, "image_id": 7, "segmentation": polygons}
        for i, polygons in enumerate([[], [[1, 2, 3, 4]], [[1, 2], triangle, []], [[0, 0, 5]]])
    ]
    path = write_json(tmp_path / "instances.json", document)
    convert_instances(images, path, tmp_path / "out", max_skipped=1.0)
    drawn = coco_mask.decode(coco_mask.frPyObjects([triangle], *HW)).any(axis=-1)
    np.testing.assert_array_equal(decoded(tmp_path / "out")["7"], drawn[None])


def test_polygons_that_leave_the_image_are_drawn_as_pycocotools_does(tmp_path, images, instances):
    rng = np.random.default_rng(3)
    document = copy.deepcopy(instances[0])
    polygons = [rng.uniform(-WIDTH, 2 * WIDTH, 2 * n).tolist() for n in rng.integers(3, 9, 60)]
    document["annotations"] = [
        {"id": i, "image_id": 7, "segmentation": [polygon]} for i, polygon in enumerate(polygons)
    ]
    path = write_json(tmp_path / "instances.json", document)
    convert_instances(images, path, tmp_path / "out", max_skipped=1.0)
    drawn = [coco_mask.decode(coco_mask.frPyObjects([p], *HW))[..., 0] for p in polygons]
    expected = [mask for mask in drawn if mask.any()]
    np.testing.assert_array_equal(decoded(tmp_path / "out")["7"], np.array(expected, bool))


def test_entries_of_the_file_are_refused_by_their_index(tmp_path, images, instances):
    document = instances[0]
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(picture(np.random.default_rng(0)))
    extra = {100 + i: image_entry(100 + i) for i in range(7)}
    extra[100]["file_name"] = "../outside.jpg"
    extra[101]["file_name"] = str(outside)
    extra[102]["height"] = 1e308
    extra[103]["width"] = 1 << 40
    extra[104]["file_name"] = None
    # More pixels than an image may have: nothing of that size is ever made.
    extra[105] |= {"height": 8193, "width": 8192, "file_name": image_entry(7)["file_name"]}
    document["images"] += [*extra.values(), "image", {"id": True}]
    document["annotations"] += [None, {"image_id": 999}, {"image_id": "7"}]
    path = write_json(tmp_path / "instances.json", document)
    manifest = convert_instances(images, path, tmp_path / "out", max_skipped=1.0)
    assert manifest.num_records == 3
    entries = skipped_names(tmp_path / "out")
    assert sorted(entry["name"].removeprefix("instances.json: ") for entry in entries) == [
        "annotations[5]",
        "annotations[6]",
        "annotations[7]",
        *(f"images[{index}]" for index in (10, 11, 3, 4, 5, 6, 7, 8, 9)),
    ]
    (large,) = [entry for entry in entries if entry["name"].endswith("images[8]")]
    assert "is more than 67108864 pixels" in large["detail"]


@pytest.mark.parametrize("share", [0.0001, 1.0])
def test_an_unknown_image_is_skipped_once_and_only_in_the_sample(
    tmp_path, images, instances, share
):
    document, _ = instances
    document["annotations"] += [{"image_id": 999}] * 3 + [{"image_id": 1000}]
    path = write_json(tmp_path / "instances.json", document)
    found = coco.CocoMasks(images, path, Sample(share=share), "coco_instances").candidates()
    skipped = [(c.name, c.reason, c.detail) for c in found if isinstance(c, Skipped)]
    detail = "Annotations about image {}, which is not listed: {}."
    expected = [
        ("instances.json: annotations[5]", "no image", detail.format(999, 3)),
        ("instances.json: annotations[8]", "no image", detail.format(1000, 1)),
    ]
    assert skipped == (expected if share == 1.0 else [])


def test_fuzzed_annotations_are_named_or_make_whole_masks(tmp_path, images, instances):
    document, _ = instances
    odd = [None, True, -1, 1e308, 2**70, "x", "", [], {}, [[]], [1e308] * 8, {"size": [1, 1]}]
    rng = np.random.default_rng(0)
    num_skipped = 0
    for case in range(250):
        changed = copy.deepcopy(document)
        for _ in range(rng.integers(1, 4)):
            node = changed
            while True:
                keys = list(node) if isinstance(node, dict) else range(len(node))
                key = keys[rng.integers(len(keys))]
                if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.2:
                    break
                node = node[key]
            if rng.random() < 0.3:
                del node[key]
            else:
                node[key] = odd[rng.integers(len(odd))]
            if not changed or not all(changed.values()):
                break
        path = write_json(tmp_path / "in" / "instances.json", changed)
        output = tmp_path / str(case)
        try:
            manifest = convert_instances(images, path, output, max_skipped=1.0)
        except ValueError as error:
            assert str(path) in str(error) or "no record" in str(error)
            continue
        num_skipped += sum(manifest.skipped.values())
        assert {mask.shape for masks in decoded(output).values() for mask in masks} == {HW}
    assert num_skipped > 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"images": [', "no JSON that can be read"),
        ('{"images": [], "annotations": NaN}', "NaN is no number"),
        ("[]", 'lists "images" and "annotations"'),
        ('{"images": {}, "annotations": []}', 'lists "images" and "annotations"'),
        ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', r"images\[0\] and images\[1\]"),
    ],
)
def test_a_file_that_is_not_cocos_is_refused_as_a_whole(tmp_path, images, text, message):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        convert_instances(images, path, tmp_path / "out")
    assert str(path) in str(caught.value)


@pytest.fixture
def panoptic(tmp_path):
    """Two id maps; id 1001 is void's neighbour in the first byte, 70000 needs the third."""
    ids = np.zeros(HW, np.int64)
    ids[2:6, 3:9], ids[6:, :5], ids[8:, 9:] = 1001, 70_000, 255
    maps = {7: ids, 3: np.where(ids, ids, 256)}
    annotations = []
    for number, array in maps.items():
        name = f"{number:012d}.png"
        rgb = np.stack([array % 256, array // 256 % 256, array // 65536], -1).astype(np.uint8)
        path = tmp_path / "annotations" / "panoptic_val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(rgb, "PNG"))
        infos = [{"id": int(i), "iscrowd": int(i == 255)} for i in np.unique(array) if i]
        annotations.append({"image_id": number, "file_name": name, "segments_info": infos})
    document = {"images": [image_entry(number) for number in maps], "annotations": annotations}
    return write_json(tmp_path / "annotations" / "panoptic_val.json", document), maps


def convert_panoptic(images, path, output, **options):
    return run(coco.CocoMasks(images, path, Sample(), "coco_panoptic"), output, **options)


def test_every_panoptic_segment_but_crowd_is_a_mask(tmp_path, images, panoptic):
    path, maps = panoptic
    manifest = convert_panoptic(images, path, tmp_path / "out")
    assert manifest.dropped_masks == {"crowd": 2}
    found = decoded(tmp_path / "out")
    for number, ids in maps.items():
        expected = [ids == i for i in np.unique(ids) if i not in (0, 255)]
        np.testing.assert_array_equal(found[str(number)], expected)


def test_the_folder_of_ids_may_lie_beside_the_folder_of_the_json(tmp_path, images, panoptic):
    path, _ = panoptic
    (path.parent / "panoptic_val").rename(tmp_path / "panoptic_val")
    assert convert_panoptic(images, path, tmp_path / "out").num_records == 2
    (tmp_path / "panoptic_val").rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no folder panoptic_val with the PNG files"):
        convert_panoptic(images, path, tmp_path / "out2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["segments_info"].pop(), "do not name the same segments"),
        (lambda a: a["segments_info"].append(a["segments_info"][0]), "do not name the same"),
        (lambda a: a.update(file_name="../../panoptic_val.json"), "lacks a plain file_name"),
        (lambda a: a.update(segments_info=None), "a list segments_info"),
        (lambda a: a.update(segments_info=a["segments_info"] * 5_000), "lists 15000 segments"),
        (lambda a: a["segments_info"].append("x"), "'id' is None"),
        (lambda a: a.update(file_name="none.png"), "none.png cannot be read"),
        (lambda a: a.update(file_name="grey.png"), "must be a PNG file of 8-bit colours"),
        (lambda a: a.update(file_name="small.png"), "5 x 5 pixels, its image 12 x 17"),
    ],
)
def test_bad_panoptic_annotations_are_named(tmp_path, images, panoptic, change, message):
    path, _ = panoptic
    folder = path.parent / "panoptic_val"
    (folder / "grey.png").write_bytes(encode(np.zeros(HW, np.uint8), "PNG"))
    (folder / "small.png").write_bytes(encode(np.zeros((5, 5, 3), np.uint8), "PNG"))
    document = json.loads(path.read_text())
    change(document["annotations"][0])
    write_json(path, document)
    convert_panoptic(images, path, tmp_path / "out", max_skipped=1.0)
    (entry,) = skipped_names(tmp_path / "out")
    assert entry["reason"] == "bad annotation" and message in entry["detail"]
