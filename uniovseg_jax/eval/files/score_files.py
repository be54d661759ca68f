"""Scores predictions on disk, of any model, against truth on disk: label maps and panoptic maps.

`score_objects.py` and `score_prompts.py` do the same for files of single masks.
"""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tqdm
from jaxtyping import Int32

from uniovseg_jax.eval.files.panoptic_files import PanopticFiles
from uniovseg_jax.eval.metrics.panoptic import PanopticScores, TruthError
from uniovseg_jax.eval.metrics.semantic import SemanticScores
from uniovseg_jax.image_io import read_labels

_SUFFIXES = (".png", ".tif", ".tiff")
# All that 16 bits hold.
_NUM_LABELS = 1 << 16
# Pixels are counted by pairs of classes.
_MAX_CLASSES = 1 << 12
_LEAST_LABEL = -(1 << 31)
_VOID, _UNKNOWN = -1, -2


@dataclasses.dataclass(frozen=True)
class FileScores:
    """What came of a comparison.

    Attributes:
      result: Ready for JSON: by group, scores in percent, None where a group has nothing to score.
      table: Of all classes or modes, to be read.
      notes: What is odd about the files although they could be scored.
    """

    result: dict[str, dict[str, float | int | None]]
    table: str
    notes: tuple[str, ...] = ()


def score_panoptic(
    gt_json: str | os.PathLike[str],
    gt_dir: str | os.PathLike[str] | None,
    pred_json: str | os.PathLike[str],
    pred_dir: str | os.PathLike[str] | None,
) -> FileScores:
    """Compares two sets of files in COCO's panoptic form; see `panoptic_files.py`.

    Every image of the truth needs a prediction; predictions of other images are left out.

    Returns:
      For `all`, `things` and `stuff` `pq`, `sq`, `rq` and the number `n` of classes met.

    Raises:
      FileNotFoundError: If a file is not there.
      ValueError: If files are malformed or do not fit each other, or nothing is to be scored.
    """
    truth = PanopticFiles(gt_json, gt_dir)
    prediction = PanopticFiles(pred_json, pred_dir, truth.classes)
    scores = PanopticScores(truth.classes.is_thing)
    for image_id in tqdm.tqdm(truth.image_ids, unit="image"):
        predicted, predicted_segments, path = prediction.read(image_id)
        target, target_segments, _ = truth.read(image_id)
        try:
            scores.add(predicted, predicted_segments, target, target_segments)
        except TruthError as error:
            raise ValueError(f"{truth.path}, image {image_id}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    computed = scores.compute()
    if not computed["all"]["classes"]:
        raise nothing_to_score(f"{truth.path} has no segment of a listed class besides crowds")
    result = {
        group: {
            **{name: percent(computed[group][name]) for name in ("pq", "sq", "rq")},
            "n": computed[group]["classes"],
        }
        for group in ("all", "things", "stuff")
    }
    rows = [
        (info.id, info.name, "thing" if info.isthing else "stuff")
        + tuple(percent(computed["per_class"][name][index]) for name in ("pq", "sq", "rq"))
        + tuple(
            int(counts[index])
            for counts in (scores.true_positive, scores.false_positive, scores.false_negative)
        )
        for index, info in enumerate(truth.classes.classes)
    ]
    notes = list(scores.notes())
    if truth.unlisted:
        notes.append(
            f"{truth.unlisted} segments of the truth have a class that is not listed: they are not "
            "scored, but what is predicted on them is wrong."
        )
    header = ("id", "class", "kind", "PQ", "SQ", "RQ", "TP", "FP", "FN")
    return FileScores(result, make_table(header, rows), tuple(notes))


def score_semantic(
    gt_dir: str | os.PathLike[str],
    pred_dir: str | os.PathLike[str],
    num_classes: int,
    ignored: Sequence[int] = (),
    gt_suffix: str = "",
    pred_suffix: str = "",
) -> FileScores:
    """Compares two folders of label maps whose names are equal up to the suffix.

    Folders within are looked through; files that are neither PNG nor TIFF are left out.

    Args:
      gt_dir: Of the truth.
      pred_dir: Of the predictions.
      num_classes: Labels are 0..num_classes-1.
      ignored: Labels that are not scored. In a prediction they are an error on scored pixels.
        Negative ones can only be in maps of signed numbers.
      gt_suffix: What names of the truth end with, such as `_labelTrainIds.png`; it is no part of
        what must be equal, and other files are left out. By default the extension.
      pred_suffix: The same for the predictions.

    Returns:
      For `all` `miou`, `fwiou`, `macc`, `pacc` and the number `n` of classes that the truth has.

    Raises:
      FileNotFoundError: If a folder is not there.
      ValueError: If the folders do not hold the same images or a file does not fit.
    """
    if not 0 < num_classes <= _MAX_CLASSES:
        raise ValueError(f"The number of classes must be 1 to {_MAX_CLASSES}, got {num_classes}.")
    if not all(_LEAST_LABEL <= label < _NUM_LABELS for label in ignored):
        raise ValueError(
            f"Labels to ignore must lie in {_LEAST_LABEL}..{_NUM_LABELS - 1}, got {ignored}."
        )
    lookup = np.full(_NUM_LABELS, _UNKNOWN, np.int32)
    lookup[:num_classes] = np.arange(num_classes)
    lookup[[label for label in ignored if label >= 0]] = _VOID
    negative = tuple(label for label in ignored if label < 0)
    truth = _label_files(pathlib.Path(gt_dir), gt_suffix)
    prediction = _label_files(pathlib.Path(pred_dir), pred_suffix)
    if lone := sorted(truth.keys() ^ prediction.keys()):
        has, lacks = (gt_dir, pred_dir) if lone[0] in truth else (pred_dir, gt_dir)
        raise ValueError(
            f"{has} has a label map {lone[0]} and {lacks} has none; in all {len(lone)} are without "
            "a partner."
        )
    scores = SemanticScores(num_classes)
    for name in tqdm.tqdm(sorted(truth), unit="image"):
        predicted = _read_indices(prediction[name], lookup, negative)
        target = _read_indices(truth[name], lookup, negative)
        try:
            scores.add(predicted, target)
        except ValueError as error:
            raise ValueError(f"{prediction[name]}: {error}") from error
    computed = scores.compute()
    pixels = scores.confusion.sum(axis=0)
    if not pixels.any():
        raise nothing_to_score(f"the label maps of {gt_dir} have no pixel that is not ignored")
    names = {"mean_accuracy": "macc", "pixel_accuracy": "pacc"}
    result = {
        names.get(name, name): percent(computed[name])
        for name in ("miou", "fwiou", "mean_accuracy", "pixel_accuracy")
    }
    right = np.diagonal(scores.confusion) / np.maximum(pixels, 1)
    rows = [
        (index, percent(iou), percent(right[index]) if pixels[index] else None, int(pixels[index]))
        for index, iou in enumerate(computed["iou"])
    ]
    table = make_table(("class", "IoU", "accuracy", "pixels"), rows)
    classes = [label for label in ignored if 0 <= label < num_classes]
    notes = [f"Class {label} is ignored: it is not among the scored ones." for label in classes]
    return FileScores({"all": {**result, "n": int((pixels > 0).sum())}}, table, tuple(notes))


def nothing_to_score(reason: str) -> ValueError:
    """Returns the complaint about a truth that is well-formed and would give no score at all."""
    return ValueError(f"There is nothing to score: {reason}.")


def percent(fraction: float) -> float | None:
    """Returns a score in percent; None for NaN, which JSON has no word for.

    Rounded to ten digits, so that sums of many classes that are all right give exactly 100.
    """
    return None if math.isnan(fraction) else round(100.0 * float(fraction), 10)


def make_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Returns a table in Markdown with two decimals, `-` where there is no score."""
    return "\n".join(_line(row) for row in [header, ["---"] * len(header), *rows])


def _line(cells: Sequence[Any]) -> str:
    texts = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"| {' | '.join('-' if text == 'None' else text for text in texts)} |"


def _label_files(folder: pathlib.Path, suffix: str) -> Mapping[str, pathlib.Path]:
    """Lists label maps by their path within the folder, without the suffix."""
    if suffix and not suffix.lower().endswith(_SUFFIXES):
        raise ValueError(f"The suffix {suffix} must end with one of {', '.join(_SUFFIXES)}.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    found: dict[str, pathlib.Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        # A link that leads nowhere stays: it is a map that cannot be read, not one to leave out.
        if path.is_dir():
            continue
        if not path.name.endswith(suffix):
            continue
        name = path.relative_to(folder).as_posix().removesuffix(suffix or path.suffix)
        if name in found:
            raise ValueError(
                f"{folder} has two label maps {name}: {found[name].name}, {path.name}."
            )
        found[name] = path
    if not found:
        expected = f"files *{suffix}" if suffix else "PNG or TIFF files"
        raise ValueError(f"{folder} holds no label map; expected {expected}.")
    return found


def _read_indices(
    path: pathlib.Path, lookup: Int32[np.ndarray, " labels"], negative: tuple[int, ...]
) -> Int32[np.ndarray, "h w"]:
    """Reads a label map; raises ValueError at a label that is no class and not ignored."""
    labels = read_labels(path.read_bytes(), str(path))
    outside = (labels < 0) | (labels >= lookup.size)
    indices = lookup[np.where(outside, 0, labels)]
    if outside.any():
        indices = np.where(outside, np.where(np.isin(labels, negative), _VOID, _UNKNOWN), indices)
        indices = indices.astype(np.int32)
    if (unknown := indices == _UNKNOWN).any():
        raise ValueError(
            f"{path} has the label {labels[unknown][0]}, which is neither a class nor ignored."
        )
    return indices
