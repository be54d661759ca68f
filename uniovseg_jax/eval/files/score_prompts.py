"""Scores files of masks that answer prompts: their IoU with the true masks, in several readings.

Truth is a COCO file (`images`, `annotations` with polygons or run lengths), what a model answered a
list of COCO results, `[{"image_id", "segmentation", ...}]`, run lengths.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Float

from uniovseg_jax.data.coco_file import read_iscrowd
from uniovseg_jax.eval.files.coco_files import Entries, TrueObjects, of_size, read_results
from uniovseg_jax.eval.files.score_files import FileScores, make_table, nothing_to_score, percent
from uniovseg_jax.eval.metrics.promptable import MODES, PromptableScores, TrueMasks, prompts_inside
from uniovseg_jax.json_fields import at, finite_number, whole_number
from uniovseg_jax.masks import rle_decode
from uniovseg_jax.packed_masks import PackedMasks, packed_iou
from uniovseg_jax.polygons import finite_numbers

# Masks that are unpacked at a time.
_BLOCK = 64


def score_prompted(
    gt_json: str | os.PathLike[str],
    pred_json: str | os.PathLike[str],
    mode: str,
    min_area: float = 0.0,
) -> FileScores:
    """Compares masks that were asked for; classes play no part.

    In `grid_any` all masks of an image are offered to every true one. In `grid_inside` each result
    names its point as SAM's generator does, `point_coords` `[[x, y]]` in pixels; offered are those
    of the points inside the true mask, or of the one nearest to its centre. In the other modes each
    result says with `prompt` which annotation's own point or box it answers, by the annotation's
    id; several may answer one. Then `<mode>` is the best of them, and for points `<mode>_ranked`
    the one of the highest `score` (the first of equal ones), if all have a score. A true mask that
    nothing answers has an IoU of 0.

    Args:
      gt_json: Truth; crowds and empty masks are not scored.
      pred_json: Results.
      mode: One of `promptable.MODES`.
      min_area: Least area of a true mask as a share of the image, 0..1.

    Returns:
      By mode `iou`, the mean over masks, `iou_of_images`, the mean over images of their means, the
      numbers of `masks` and `images`, and how many true masks are `unanswered`.

    Raises:
      FileNotFoundError: If a file is not there.
      ValueError: If files are malformed or do not fit each other, or nothing is to be scored.
    """
    if mode not in MODES:
        raise ValueError(f"Unknown mode {mode!r}; expected one of {', '.join(MODES)}.")
    truth = TrueObjects(gt_json)
    found = read_results(pathlib.Path(pred_json), truth)
    ranked = mode in ("center", "random") and all(
        "score" in entry for entries in found.values() for _, entry in entries
    )
    scores, unanswered = PromptableScores(), 0
    for image_id, hw in tqdm.tqdm(truth.sizes.items(), unit="image"):
        entries, results = truth.entries(image_id), found.get(image_id, [])
        rles = [
            {
                **at(where, truth.mask, entry, image_id),
                "iscrowd": at(where, read_iscrowd, entry),
            }
            for where, entry in entries
        ]
        masks = TrueMasks.from_rles(rles, hw, min_area)
        iou = _iou_matrix(masks, results, hw)
        if mode == "grid_any":
            answers = [list(range(len(results)))] * len(masks)
        elif mode == "grid_inside":
            answers = _answers_inside(results, masks, hw)
        else:
            answers = _answers(entries, results, masks)
        unanswered += sum(not own for own in answers)
        best = [row[own].max(initial=0.0) for row, own in zip(iou, answers, strict=True)]
        values = {mode: np.array(best, np.float64)}
        if ranked:
            rank = np.array([_score(*result) for result in results])
            first = [
                row[own[int(np.argmax(rank[own]))]] if own else 0.0
                for row, own in zip(iou, answers, strict=True)
            ]
            values[f"{mode}_ranked"] = np.array(first, np.float64)
        scores.add(values)
    if not scores.totals:
        least = f" of at least {min_area:g} of its image" if min_area else ""
        raise nothing_to_score(f"{truth.path} has no mask{least} besides crowds and empty ones")
    result = {
        name: {
            "iou": percent(score["iou"]),
            "iou_of_images": percent(score["iou_of_images"]),
            "masks": int(score["masks"]),
            "images": int(score["images"]),
            "unanswered": unanswered,
        }
        for name, score in scores.compute().items()
    }
    header = ("mode", "mean over masks", "mean over images", "masks", "images", "unanswered")
    rows = [(name, *values.values()) for name, values in result.items()]
    return FileScores(result, make_table(header, rows))


def _score(where: str, entry: Mapping[str, Any]) -> float:
    return at(where, finite_number, entry, "score")


def _answers(entries: Entries, results: Entries, masks: TrueMasks) -> list[list[int]]:
    """Returns for each scored mask which results answer its own prompt."""
    answers: dict[Any, list[int]] = {}
    for where, entry in entries:
        number = at(where, whole_number, entry, "id", 0)
        if number in answers:
            raise ValueError(f"{where}: another annotation of this image has the id {number}.")
        answers[number] = []
    for place, (where, entry) in enumerate(results):
        number = at(where, whole_number, entry, "prompt", 0)
        if number not in answers:
            raise ValueError(
                f"{where}: its prompt is that of annotation {number}, which is not in its image."
            )
        answers[number].append(place)
    return [answers[entries[index][1]["id"]] for index in masks.indices.tolist()]


def _answers_inside(results: Entries, masks: TrueMasks, hw: tuple[int, int]) -> list[list[int]]:
    """Returns for each scored mask which results count in the mode `grid_inside`."""
    if not results:
        return [[]] * len(masks)
    points = np.array([at(where, _point, entry, hw) for where, entry in results], np.float64)
    # Several results may have one point; points by rows, as a grid has them.
    unique_yx, place = np.unique(points[:, ::-1], axis=0, return_inverse=True)
    inside = prompts_inside(masks, unique_yx[:, ::-1])[:, place.reshape(-1)]
    return [np.flatnonzero(row).tolist() for row in inside]


def _point(entry: Mapping[str, Any], hw: tuple[int, int]) -> list[float]:
    """Returns the point (x, y) of a result, which lies within the edges of the image's pixels."""
    points = entry.get("point_coords")
    if not (
        isinstance(points, list)
        and len(points) == 1
        and finite_numbers(points[0])
        and len(points[0]) == 2
    ):
        raise ValueError(f"'point_coords' is {str(points)[:40]}, expected one point, [[x, y]].")
    (x, y), (height, width) = points[0], hw
    # One in the frame of a network's input would count at the border without a word.
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise ValueError(
            f"'point_coords' is {str(points)[:40]}, outside of its image, which has a width of "
            f"{width} and a height of {height}; expected [[x, y]] in pixels of the image."
        )
    return [float(x), float(y)]


def _iou_matrix(
    masks: TrueMasks, results: Entries, hw: tuple[int, int]
) -> Float[np.ndarray, "n results"]:
    """Returns the overlap of every true mask with every result."""
    iou = np.zeros((len(masks), len(results)))
    for start in range(0, len(results), _BLOCK):
        block = [
            rle_decode(at(where, of_size, entry.get("segmentation"), hw))
            for where, entry in results[start : start + _BLOCK]
        ]
        iou[:, start : start + _BLOCK] = packed_iou(masks.masks, PackedMasks.from_masks(block, hw))
    return iou
