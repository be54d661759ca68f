"""Mask AP (COCO's rules for segmentation), matched and averaged by pycocotools."""

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from uniovseg_jax.benchmarks.benchmark import Rle, TrueInstance
from uniovseg_jax.masks import rle_area, rle_compress
from uniovseg_jax.polygons import import_pycocotools

# Predictions per image and class that are looked at, the best ones.
MAX_DETECTIONS = 100
# By name: which of the IoU thresholds 0.50:0.05:0.95, which of COCO's ranges of area.
_MEASURES = {
    "ap": (slice(None), 0),
    "ap50": (slice(0, 1), 0),
    "ap75": (slice(5, 6), 0),
    "aps": (slice(None), 1),
    "apm": (slice(None), 2),
    "apl": (slice(None), 3),
}
MEASURES = tuple(_MEASURES)


@dataclasses.dataclass(frozen=True)
class PredictedInstance:
    """One object that a model found.

    Attributes:
      rle: Its mask, COCO run lengths.
      category: Index of its class.
      score: Higher is better; compared over all images.
    """

    rle: Rle
    category: int
    score: float


@dataclasses.dataclass(frozen=True)
class _Matches:
    """What came of the objects of one class in one image.

    Attributes:
      scores: Of the predictions, best first.
      matched: By range of area and IoU threshold, which of them found a true object.
      ignored: Which of them count for nothing: they found a crowd or are of another size.
      counted: True objects by range of area.
    """

    scores: Float[np.ndarray, " n"]
    matched: Bool[np.ndarray, "areas ious n"]
    ignored: Bool[np.ndarray, "areas ious n"]
    counted: Int[np.ndarray, " areas"]


class InstanceScores:
    """Accumulates matches by image: `add` images, `merge` other accumulators, `compute` once.

    AP orders the predictions of all images by score, so that no few sums hold it: kept are, for
    every image, the scores and what they matched, some hundred bytes per prediction.

    Attributes:
      num_classes: Number of classes.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._images: dict[int | str, dict[int, _Matches]] = {}

    def add(
        self,
        image_id: int | str,
        predicted: Sequence[PredictedInstance],
        truth: Sequence[TrueInstance],
    ) -> None:
        """Matches one image.

        Predictions are sorted into sizes by the pixels of their masks, true objects by the area
        that their annotation states. (pycocotools takes the area of a prediction's box where a
        results file has one; boxes play no part here.)

        Args:
          image_id: Whole numbers, or text, of all images alike. Where scores of several images are
            equal, the order of their ids decides.
          predicted: What the model found, in any order; of equal scores the first is taken first.
          truth: All objects of the image.

        Raises:
          ValueError: If the image was added before, a mask is malformed, a score is not finite, a
            class is out of range, or the sizes of masks differ.
          ImportError: If pycocotools is not installed.
        """
        if image_id in self._images:
            raise ValueError(f"Image {image_id} has been counted before.")
        categories = {found.category for found in (*predicted, *truth)}
        for category in categories:
            if not 0 <= category < self.num_classes:
                raise ValueError(f"Class {category} is not in 0..{self.num_classes - 1}.")
        if not all(np.isfinite(found.score) for found in predicted):
            raise ValueError("The score of a prediction is not a finite number.")
        # pycocotools knows objects by id, and takes an id of 0 for none.
        masks = [rle_compress(found.rle) for found in (*predicted, *truth)]
        if len(sizes := {tuple(mask["size"]) for mask in masks}) > 1:
            raise ValueError(f"Masks of one image have different sizes: {sorted(sizes)}.")
        guesses: dict[int, list[dict[str, Any]]] = {category: [] for category in categories}
        truths: dict[int, list[dict[str, Any]]] = {category: [] for category in categories}
        for number, (guess, mask) in enumerate(zip(predicted, masks, strict=False), 1):
            entry = {"id": number, "segmentation": mask, "area": rle_area(mask)}
            guesses[guess.category].append({**entry, "score": float(guess.score)})
        for number, (true, mask) in enumerate(zip(truth, masks[len(predicted) :], strict=True), 1):
            crowd = {"iscrowd": int(true.iscrowd), "ignore": int(true.iscrowd)}
            entry = {"id": number, "segmentation": mask, "area": true.area}
            truths[true.category].append({**entry, **crowd})
        self._images[image_id] = {
            category: _match(guesses[category], truths[category]) for category in sorted(categories)
        }

    def merge(self, other: "InstanceScores") -> None:
        """Takes over the images of another accumulator of the same classes.

        Raises:
          ValueError: If the numbers of classes differ or an image is in both.
        """
        if other.num_classes != self.num_classes:
            raise ValueError("Only accumulators of the same number of classes can be merged.")
        if twice := self._images.keys() & other._images.keys():
            raise ValueError(f"Image {min(twice, key=str)} has been counted before.")
        self._images.update(other._images)

    def counters(self) -> list[dict[str, Any]]:
        """Returns all that was found, ready for JSON: a row for every image."""
        return [
            {
                "image": image_id,
                "classes": [
                    {
                        "category": category,
                        "scores": found.scores.tolist(),
                        "matched": np.packbits(found.matched).tobytes().hex(),
                        "ignored": np.packbits(found.ignored).tobytes().hex(),
                        "counted": found.counted.tolist(),
                    }
                    for category, found in classes.items()
                ],
            }
            for image_id, classes in self._images.items()
        ]

    @classmethod
    def from_counters(
        cls, num_classes: int, counters: Sequence[Mapping[str, Any]]
    ) -> "InstanceScores":
        """Returns the accumulator that `counters` were taken from."""
        scores = cls(num_classes)
        for image in counters:
            scores._images[image["image"]] = {
                row["category"]: _Matches(
                    np.array(row["scores"], np.float64),
                    _unpack(row["matched"], len(row["scores"])),
                    _unpack(row["ignored"], len(row["scores"])),
                    np.array(row["counted"], np.int64),
                )
                for row in image["classes"]
            }
        return scores

    def compute(self) -> dict[str, Any]:
        """Returns fractions in 0..1; NaN where there is no true object.

        Returns:
          For `all` the means of the `MEASURES` over the `classes` that have a true object;
          `per_class` has an array of each (NaN where the class has none of that size).

        Raises:
          ImportError: If pycocotools is not installed.
        """
        precision = self._precision()
        result: dict[str, Any] = {"all": {}, "per_class": {}}
        for name, (thresholds, area) in _MEASURES.items():
            values = precision[thresholds, :, :, area]
            met = (values > -1).all(axis=(0, 1))
            per_class = np.full(self.num_classes, np.nan)
            per_class[met] = values[..., met].mean(axis=(0, 1))
            result["per_class"][name] = per_class
            result["all"][name] = float(values[..., met].mean()) if met.any() else float("nan")
        result["all"]["classes"] = int(np.isfinite(result["per_class"]["ap"]).sum())
        return result

    def _precision(self) -> Float[np.ndarray, "ious recalls classes areas"]:
        """Returns the precision at COCO's points of recall, -1 where there is no true object."""
        evaluator = _new_evaluator()
        parameters, images = evaluator.params, sorted(self._images, key=_order)
        parameters.imgIds = list(range(len(images)))
        parameters.catIds = list(range(self.num_classes))
        found = [self._images[image_id] for image_id in images]
        evaluator._paramsEval = parameters
        evaluator.evalImgs = [
            _as_evaluated(classes[category], area) if category in classes else None
            for category in parameters.catIds
            for area in range(len(parameters.areaRng))
            for classes in found
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluator.accumulate()
        return evaluator.eval["precision"][..., 0]


def _order(image_id: int | str) -> tuple[bool, int, str]:
    """Sorts numbers, also those that are text as in COCO's benchmarks, as COCO's tools do."""
    text = str(image_id)
    is_number = text.isascii() and text.isdecimal()
    return not is_number, int(text) if is_number else 0, text


def _new_evaluator() -> Any:
    evaluator = import_pycocotools("cocoeval").COCOeval(iouType="segm")
    evaluator.params.maxDets = [MAX_DETECTIONS]
    return evaluator


def _match(guesses: list[dict[str, Any]], truths: list[dict[str, Any]]) -> _Matches:
    """Matches the objects of one class in one image."""
    evaluator = _new_evaluator()
    evaluator._gts[0, 0], evaluator._dts[0, 0] = truths, guesses
    evaluator.ious = {(0, 0): evaluator.computeIoU(0, 0)}
    parts = [evaluator.evaluateImg(0, 0, area, MAX_DETECTIONS) for area in evaluator.params.areaRng]
    return _Matches(
        np.array(parts[0]["dtScores"], np.float64),
        np.stack([part["dtMatches"] > 0 for part in parts]),
        np.stack([part["dtIgnore"].astype(bool) for part in parts]),
        np.array([np.count_nonzero(part["gtIgnore"] == 0) for part in parts], np.int64),
    )


def _as_evaluated(found: _Matches, area: int) -> dict[str, Any]:
    """Returns matches in the form that pycocotools accumulates."""
    return {
        "dtScores": found.scores,
        "dtMatches": found.matched[area],
        "dtIgnore": found.ignored[area],
        "gtIgnore": np.zeros(found.counted[area]),
    }


def _unpack(packed: str, number: int) -> Bool[np.ndarray, "areas ious n"]:
    """Reads bits of `_Matches` back; there are 4 ranges of area and 10 thresholds."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(packed), np.uint8), count=40 * number)
    return bits.astype(bool).reshape(4, 10, number)
