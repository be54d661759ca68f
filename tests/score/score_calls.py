"""Calls of scripts/score.py, and the files that they are about."""

import json

import numpy as np
from made_objects import CATEGORIES, HW
from made_panoptic import CLASSES
from PIL import Image
from programs import call

from uniovseg_jax.eval.files.panoptic_files import write_panoptic_json, write_panoptic_map
from uniovseg_jax.masks import rle_encode


def last_line(script, capsys, *arguments):
    code, printed = call(script, *arguments), capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out.splitlines()[-1]), printed


def complaint(script, capsys, *arguments):
    code, printed = call(script, *arguments), capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert "Traceback" not in printed.err
    return printed.err.splitlines()[-1]


def write_json(path, document):
    path.write_text(json.dumps(document))
    return path


def write_maps(folder, name, maps):
    (folder / name).mkdir(parents=True)
    entries = [
        write_panoptic_map(folder / name, image_id, f"{image_id}.png", ids, segments, CLASSES)
        for image_id, (ids, segments) in maps.items()
    ]
    write_panoptic_json(folder / f"{name}.json", entries, CLASSES)


def panoptic_flags(folder):
    return (
        "--task=panoptic",
        f"--gt_json={folder / 'gt.json'}",
        f"--gt_dir={folder / 'gt'}",
        f"--pred_json={folder / 'pred.json'}",
        f"--pred_dir={folder / 'pred'}",
    )


def semantic_flags(folder, *more):
    return ("--task=semantic", f"--gt_dir={folder / 'gt'}", f"--pred_dir={folder / 'pred'}", *more)


def save(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)


def object_flags(folder, task, document, results, *more):
    truth = write_json(folder / "gt.json", document)
    found = write_json(folder / "results.json", results)
    return (f"--task={task}", f"--gt_json={truth}", f"--pred_json={found}", *more)


MASK = rle_encode(np.ones(HW, bool))
TRUTH = {
    "images": [{"id": 1, "height": HW[0], "width": HW[1]}],
    "annotations": [
        {"id": 4, "image_id": 1, "category_id": 3, "segmentation": MASK, "area": 9, "iscrowd": 0}
    ],
    "categories": CATEGORIES,
}
RESULT = {"image_id": 1, "category_id": 3, "segmentation": MASK, "score": 0.5, "prompt": 4}


CROWD = {**TRUTH, "annotations": [{**TRUTH["annotations"][0], "iscrowd": 1}]}
