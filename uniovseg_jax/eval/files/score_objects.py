"""Scores files of objects of known classes (AP); `score_prompts.py` those of answers to prompts.

Truth is a COCO file (`images`, `annotations` with polygons or run lengths, `categories`), what a
model found a list of COCO results, `[{"image_id", "segmentation", "score", ...}]`, run lengths.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tqdm

from uniovseg_jax.benchmarks.benchmark import TrueInstance
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.data.coco_file import read_iscrowd
from uniovseg_jax.eval.files.coco_files import TrueObjects, of_size, read_results, stated_area
from uniovseg_jax.eval.files.score_files import FileScores, make_table, nothing_to_score, percent
from uniovseg_jax.eval.metrics.instance import MEASURES, InstanceScores, PredictedInstance
from uniovseg_jax.json_fields import at, finite_number, whole_number
from uniovseg_jax.masks import rle_area


def score_instances(
    gt_json: str | os.PathLike[str], pred_json: str | os.PathLike[str]
) -> FileScores:
    """Compares objects: `category_id` and `score` are needed; a box, if given, plays no part.

    Returns:
      For `all` the `MEASURES` and the number `n` of classes that have a true object.

    Raises:
      FileNotFoundError: If a file is not there.
      ValueError: If files are malformed or do not fit each other, or nothing is to be scored.
      ImportError: If pycocotools is not installed.
    """
    truth = TrueObjects(gt_json)
    classes = truth.classes
    found = read_results(pathlib.Path(pred_json), truth)
    scores = InstanceScores(len(classes))
    for image_id in tqdm.tqdm(truth.sizes, unit="image"):
        predicted = [
            at(where, _predicted, entry, classes, truth.sizes[image_id])
            for where, entry in found.get(image_id, [])
        ]
        true = [
            at(where, _true, entry, truth, image_id) for where, entry in truth.entries(image_id)
        ]
        scores.add(image_id, predicted, true)
    computed = scores.compute()
    if not computed["all"]["classes"]:
        raise nothing_to_score(f"{truth.path} has no object besides crowds")
    result = {name: percent(computed["all"][name]) for name in MEASURES}
    rows = [
        (info.id, info.name, *(percent(computed["per_class"][name][index]) for name in MEASURES))
        for index, info in enumerate(classes.classes)
    ]
    table = make_table(("id", "class", "AP", "AP50", "AP75", "APs", "APm", "APl"), rows)
    return FileScores({"all": {**result, "n": computed["all"]["classes"]}}, table)


def _predicted(
    entry: Mapping[str, Any], classes: ClassList, hw: tuple[int, int]
) -> PredictedInstance:
    rle = of_size(entry.get("segmentation"), hw)
    return PredictedInstance(rle, _category(entry, classes), finite_number(entry, "score"))


def _true(entry: dict[str, Any], truth: TrueObjects, image_id: int | str) -> TrueInstance:
    rle = truth.mask(entry, image_id)
    area = stated_area(entry)
    area = float(rle_area(rle)) if area is None else area
    return TrueInstance(rle, _category(entry, truth.classes), area, read_iscrowd(entry))


def _category(entry: Mapping[str, Any], classes: ClassList) -> int:
    number = whole_number(entry, "category_id", low=0)
    if number not in classes.index_of:
        raise ValueError(
            f"The category_id {number} is none of the {len(classes)} categories of the truth."
        )
    return classes.index_of[number]
