"""scripts/export_masks.py: prompts of every true mask, and answers that score as they should."""

import json

import numpy as np
import pytest
from PIL import Image
from programs import run_program

from uniovseg_jax.eval.files.score_prompts import score_prompted
from uniovseg_jax.eval.metrics.promptable import center_point
from uniovseg_jax.masks import rle_decode, rle_encode

HW = (9, 13)


def run(*arguments):
    return run_program("scripts/export_masks.py", *arguments)


@pytest.fixture
def data(tmp_path):
    """Two images of COCO: three masks with a crowd and an empty one between; then none."""
    rng = np.random.default_rng(0)
    coco = tmp_path / "data" / "coco"
    for folder in ("val2017", "annotations"):
        (coco / folder).mkdir(parents=True)
    images = []
    for number in (7, 20):
        name = f"{number:012}.jpg"
        Image.fromarray(rng.integers(0, 256, (*HW, 3), np.uint8)).save(coco / "val2017" / name)
        images.append({"id": number, "file_name": name, "height": HW[0], "width": HW[1]})
    masks = rng.random((5, *HW)) < 0.4
    masks[2] = False
    annotations = [
        {"id": 90 - n, "image_id": 7, "category_id": 1, "area": 5, "iscrowd": int(n == 1)}
        | {"segmentation": rle_encode(mask)}
        for n, mask in enumerate(masks)
    ]
    document = {"images": images, "annotations": annotations, "categories": []}
    (coco / "annotations" / "instances_val2017.json").write_text(json.dumps(document))
    return tmp_path, masks[[0, 3, 4]]


def test_what_is_written_can_be_asked_by_and_scored(data):
    folder, masks = data
    arguments = (f"--data_dir={folder / 'data'}", f"--output={folder / 'out'}")
    result = run("--benchmark=coco_instances", *arguments)
    assert result.returncode == 0, result.stderr
    path = folder / "out" / "coco_instances.json"
    assert result.stdout.split() == [str(path)]
    document = json.loads(path.read_text())
    assert [(i["id"], i["height"], i["width"]) for i in document["images"]] == [
        (7, *HW),
        (20, *HW),
    ]
    for image in document["images"]:
        assert (folder / "data" / image["file_name"]).is_file()
    entries = document["annotations"]
    assert [entry["id"] for entry in entries] == [1, 2, 3]
    for entry, mask in zip(entries, masks, strict=True):
        np.testing.assert_array_equal(rle_decode(entry["segmentation"]), mask)
        y, x = np.nonzero(mask)
        assert entry["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert entry["center_point"] == center_point(mask).tolist()
        assert entry["area"] == mask.sum() and entry["image_id"] == 7
    # A model that answers the first two, the second one with its box.
    box = np.zeros(HW, bool)
    x, y, width, height = map(int, entries[1]["bbox"])
    box[y : y + height, x : x + width] = True
    answers = [
        {"image_id": 7, "segmentation": rle_encode(mask), "prompt": number}
        for number, mask in ((1, masks[0]), (2, box))
    ]
    (folder / "answers.json").write_text(json.dumps(answers))
    scores = score_prompted(path, folder / "answers.json", "box").result["box"]
    expected = (1 + masks[1].sum() / box.sum()) / 3
    assert scores["iou"] == pytest.approx(100 * expected) and scores["unanswered"] == 1


def test_an_image_of_another_size_than_its_labels_is_refused(data):
    folder, _ = data
    image = folder / "data" / "coco" / "val2017" / f"{20:012}.jpg"
    Image.new("RGB", (3, 4)).save(image)
    result = run(
        "--benchmark=coco_instances", f"--data_dir={folder / 'data'}", f"--output={folder / 'out'}"
    )
    assert result.returncode == 2 and "has 4 x 3 pixels, its labels" in result.stderr
    assert not list((folder / "out").glob("coco*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--benchmark=none",), "Unknown benchmark 'none'"),
        (("--benchmark=timberseg",), "timberseg"),
        ((), "--benchmark"),
        (("--benchmark=coco_instances", "--split=dev"), "no split 'dev'"),
    ],
)
def test_what_is_not_there_is_one_sentence(data, arguments, message):
    folder, _ = data
    result = run(*arguments, f"--data_dir={folder / 'data'}", f"--output={folder / 'out'}")
    assert result.returncode == 2 and message in result.stderr
    assert "Traceback" not in result.stderr and not (folder / "out").exists()
