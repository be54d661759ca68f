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
from uniovseg_jax.data.mask_sources.source import whole_number
from uniovseg_jax.eval.coco_files import (
    TrueObjects,
    at,
    finite_number,
    of_size,
    read_flag,
    read_results,
)
from uniovseg_jax.eval.instance import MEASURES, InstanceScores, PredictedInstance
from uniovseg_jax.eval.score_files import FileScores, make_table, percent
from uniovseg_jax.masks import rle_area


def score_instances(
    gt_json: str | os.PathLike[str], pred_json: str | os.PathLike[str]
) -> FileScores:
    """Compares objects: `category_id` and `score` are needed; a box, if given, plays no part.

    Returns:
      For `all` the `MEASURES` and the number `n` of classes that have a true object.

    Raises:
      FileNotFoundError: If a file is not there.
      ValueError: If files are malformed or do not fit each other.
      ImportError: If pycocotools is not installed.
    """
    truth = TrueObjects(gt_json)
    if truth.classes is None:
        raise ValueError(f'{truth.path} has no list "categories", by which objects are scored.')
    found = read_results(pathlib.Path(pred_json), truth)
    scores = InstanceScores(len(truth.classes))
    for image_id in tqdm.tqdm(truth.sizes, unit="image"):
        predicted = [
            at(where, _predicted, entry, truth.classes, truth.sizes[image_id])
            for where, entry in found.get(image_id, [])
        ]
        true = [
            at(where, _true, entry, truth, image_id) for where, entry in truth.entries(image_id)
        ]
        scores.add(image_id, predicted, true)
    computed = scores.compute()
    result = {name: percent(computed["all"][name]) for name in MEASURES}
    rows = [
        (info.id, info.name, *(percent(computed["per_class"][name][index]) for name in MEASURES))
        for index, info in enumerate(truth.classes.classes)
    ]
    table = make_table(("id", "class", "AP", "AP50", "AP75", "APs", "APm", "APl"), rows)
    return FileScores({"all": {**result, "n": computed["all"]["classes"]}}, table)


def _predicted(
    entry: Mapping[str, Any], classes: ClassList, hw: tuple[int, int]
) -> PredictedInstance:
    rle = of_size(entry.get("segmentation"), hw)
    return PredictedInstance(rle, _category(entry, classes), finite_number(entry, "score"))


def _true(entry: Mapping[str, Any], truth: TrueObjects, image_id: int | str) -> TrueInstance:
    rle = truth.mask(entry, image_id)
    # Where none is stated it is counted.
    stated = entry.get("area") is not None
    area = finite_number(entry, "area") if stated else float(rle_area(rle))
    assert truth.classes is not None  # Its caller has looked.
    return TrueInstance(rle, _category(entry, truth.classes), area, _crowd(entry))


def _crowd(entry: Mapping[str, Any]) -> bool:
    return read_flag(dict(entry), "iscrowd", 0)


def _category(entry: Mapping[str, Any], classes: ClassList) -> int:
    number = whole_number(entry, "category_id", low=0)
    if number not in classes.index_of:
        raise ValueError(
            f"The category_id {number} is none of the {len(classes)} categories of the truth."
        )
    return classes.index_of[number]
