"""Semantic segmentation scores from one confusion matrix over a whole dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt32


class SemanticScores:
    """Accumulates a confusion matrix: `add` images, `merge` other accumulators, `compute` once.

    A label outside 0..num_classes-1 is void. Void ground truth is not scored at all; a void
    prediction on scored ground truth is an error like any other.

    Attributes:
      num_classes: Number of classes.
      confusion: int64 (num_classes + 1, num_classes); rows are predictions (the last one is void),
        columns are ground truth.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.confusion = np.zeros((num_classes + 1, num_classes), np.int64)

    def add(
        self, predicted: Integer[np.ndarray, "h w"], target: Integer[np.ndarray, "gt_h gt_w"]
    ) -> None:
        """Counts one image.

        Raises:
          ValueError: If the two maps differ in size.
        """
        if predicted.shape != target.shape:
            raise ValueError(
                f"The predicted map has size {predicted.shape}, the ground truth {target.shape}; "
                "predictions are scored at the size of the ground truth."
            )
        k = self.num_classes
        cells = _void_as(k, predicted)
        cells *= np.uint32(k + 1)
        cells += _void_as(k, target)
        counts = np.bincount(cells.ravel().astype(np.intp), minlength=(k + 1) ** 2)
        self.confusion += counts.reshape(k + 1, k + 1)[:, :k]

    def merge(self, other: "SemanticScores") -> None:
        """Adds the counts of another accumulator of the same classes."""
        if other.num_classes != self.num_classes:
            raise ValueError("Only accumulators of the same number of classes can be merged.")
        self.confusion += other.confusion

    def counters(self) -> dict[str, list[int]]:
        """Returns all that was counted, ready for JSON: the cells that are not zero."""
        cells = np.flatnonzero(self.confusion)
        return {"cells": cells.tolist(), "pixels": self.confusion.flat[cells].tolist()}

    @classmethod
    def from_counters(cls, num_classes: int, counters: Mapping[str, Any]) -> "SemanticScores":
        """Returns the accumulator that `counters` were taken from.

        Raises:
          ValueError: If they are those of more classes.
        """
        scores = cls(num_classes)
        cells = np.array(counters["cells"], np.int64)
        if cells.size and not 0 <= cells.min() <= cells.max() < scores.confusion.size:
            raise ValueError(f"These counters are not those of {num_classes} classes.")
        scores.confusion.flat[cells] = counters["pixels"]
        return scores

    def compute(self) -> dict:
        """Returns fractions in 0..1; NaN where nothing was scored.

        Returns:
          `miou`, `fwiou`, `mean_accuracy`, `pixel_accuracy`, and `iou` per class (NaN where the
          class never occurs in the ground truth; such classes are left out of the means).
        """
        true_positive = np.diagonal(self.confusion).astype(np.float64)
        target = self.confusion.sum(axis=0)
        predicted = self.confusion.sum(axis=1)[:-1]
        present = target > 0
        if not present.any():
            nan = float("nan")
            return {
                "miou": nan,
                "fwiou": nan,
                "mean_accuracy": nan,
                "pixel_accuracy": nan,
                "iou": np.full(self.num_classes, np.nan),
            }
        iou = np.full(self.num_classes, np.nan)
        union = target + predicted - true_positive
        iou[present] = true_positive[present] / union[present]
        return {
            "miou": float(iou[present].mean()),
            "fwiou": float((target[present] * iou[present]).sum() / target.sum()),
            "mean_accuracy": float((true_positive[present] / target[present]).mean()),
            "pixel_accuracy": float(true_positive.sum() / target.sum()),
            "iou": iou,
        }


def _void_as(k: int, labels: Integer[np.ndarray, "h w"]) -> UInt32[np.ndarray, "h w"]:
    """Returns labels as new 32-bit numbers, k for those outside 0..k-1.

    Two million pixels take 10 ms in all: what is negative becomes large, and is cut off with it.
    """
    if labels.dtype.itemsize > 4:
        labels = np.where((labels >= 0) & (labels < k), labels, k)
    return np.minimum(labels.astype(np.int32).view(np.uint32), np.uint32(k))
