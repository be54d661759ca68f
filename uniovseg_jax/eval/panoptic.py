"""Panoptic quality (Kirillov et al. 2019), with the void and crowd rules of panopticapi."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer

VOID_ID = 0


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
      id: Its positive number in the map.
      category: Class index, 0..num_classes-1.
      area: Pixels. Of ground truth, the area that its annotation states (which may differ from the
        pixels in the map); None counts the map. Of predictions it is always counted.
      iscrowd: A ground-truth region of uncounted objects.
    """

    id: int
    category: int
    area: int | None = None
    iscrowd: bool = False


class PanopticScores:
    """Accumulates PQ counters per class: `add` images, `merge` others, `compute` once.

    Attributes:
      is_thing: bool (num_classes,).
      iou_sum: Sum of IoU of the matched pairs per class.
      true_positive: Matched pairs per class.
      false_positive: Unmatched predictions per class.
      false_negative: Unmatched ground-truth segments per class.
    """

    def __init__(self, is_thing: Sequence[bool] | Bool[np.ndarray, " t"]):
        self.is_thing = np.asarray(is_thing, bool)
        count = len(self.is_thing)
        self.iou_sum = np.zeros(count, np.float64)
        self.true_positive = np.zeros(count, np.int64)
        self.false_positive = np.zeros(count, np.int64)
        self.false_negative = np.zeros(count, np.int64)

    def add(
        self,
        predicted: Integer[np.ndarray, "h w"],
        predicted_segments: Sequence[Segment],
        target: Integer[np.ndarray, "gt_h gt_w"],
        target_segments: Sequence[Segment],
    ) -> None:
        """Counts one image; 0 is void in both maps.

        Raises:
          ValueError: If the sizes differ, a predicted id is in the map and not in the list, or in
            the list without a pixel.
        """
        if predicted.shape != target.shape:
            raise ValueError(
                f"The predicted map has size {predicted.shape}, the ground truth {target.shape}; "
                "predictions are scored at the size of the ground truth."
            )
        truth = {s.id: s for s in target_segments}
        guess = {s.id: s for s in predicted_segments}
        codes, counts = np.unique(
            (target.astype(np.uint64) << np.uint64(32)) + predicted.astype(np.uint64),
            return_counts=True,
        )
        shared = {
            (int(code >> np.uint64(32)), int(code & np.uint64(0xFFFFFFFF))): int(n)
            for code, n in zip(codes, counts, strict=True)
        }
        true_area: dict[int, int] = {}
        guess_area: dict[int, int] = {}
        for (t, p), n in shared.items():
            true_area[t] = true_area.get(t, 0) + n
            guess_area[p] = guess_area.get(p, 0) + n
        if set(guess) != set(guess_area) - {VOID_ID}:
            wrong = sorted(set(guess) ^ (set(guess_area) - {VOID_ID}))
            raise ValueError(f"Predicted segments {wrong} are not in both the map and the list.")
        true_area.update({s.id: s.area for s in target_segments if s.area is not None})

        matched_truth, matched_guess = set(), set()
        for (t, p), intersection in shared.items():
            if t not in truth or p == VOID_ID or truth[t].iscrowd:
                continue
            if truth[t].category != guess[p].category:
                continue
            union = true_area[t] + guess_area[p] - intersection - shared.get((VOID_ID, p), 0)
            iou = intersection / union
            # Strictly above one half, so that a segment has at most one partner.
            if iou > 0.5:
                self.iou_sum[truth[t].category] += iou
                self.true_positive[truth[t].category] += 1
                matched_truth.add(t)
                matched_guess.add(p)

        crowds: dict[int, int] = {}
        for segment in target_segments:
            if segment.iscrowd:
                crowds[segment.category] = segment.id
            elif segment.id not in matched_truth:
                self.false_negative[segment.category] += 1
        for segment in predicted_segments:
            if segment.id in matched_guess:
                continue
            ignored = shared.get((VOID_ID, segment.id), 0)
            if segment.category in crowds:
                ignored += shared.get((crowds[segment.category], segment.id), 0)
            if ignored / guess_area[segment.id] <= 0.5:
                self.false_positive[segment.category] += 1

    def merge(self, other: "PanopticScores") -> None:
        """Adds the counters of another accumulator of the same classes."""
        if not np.array_equal(self.is_thing, other.is_thing):
            raise ValueError("Only accumulators of the same classes can be merged.")
        self.iou_sum += other.iou_sum
        self.true_positive += other.true_positive
        self.false_positive += other.false_positive
        self.false_negative += other.false_negative

    def compute(self) -> dict:
        """Returns fractions in 0..1; NaN where no class of a group was met.

        Returns:
          For `all`, `things` and `stuff` the means `pq`, `sq`, `rq` over the `classes` met;
          `per_class` has the arrays `pq`, `sq`, `rq` (NaN where a class was not met).
        """
        tp, fp, fn = self.true_positive, self.false_positive, self.false_negative
        met = tp + fp + fn > 0
        denominator = np.where(met, tp + 0.5 * fp + 0.5 * fn, 1.0)
        per_class = {
            "pq": self.iou_sum / denominator,
            # A class without a match enters the mean of SQ as zero.
            "sq": self.iou_sum / np.maximum(tp, 1),
            "rq": tp / denominator,
        }
        per_class = {name: np.where(met, values, np.nan) for name, values in per_class.items()}
        result: dict = {"per_class": per_class}
        groups = {"all": met, "things": met & self.is_thing, "stuff": met & ~self.is_thing}
        for group, chosen in groups.items():
            result[group] = {
                name: float(values[chosen].mean()) if chosen.any() else float("nan")
                for name, values in per_class.items()
            }
            result[group]["classes"] = int(chosen.sum())
        return result
