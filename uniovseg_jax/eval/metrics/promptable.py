"""How well masks that prompts give fit true masks: 1-pt IoU and 1-box IoU, in several readings.

The numbers of different modes are different quantities, so a mode goes along with every one:

  `grid_any`     The best of all masks of a grid of points (the paper's words, taken literally).
  `grid_inside`  The best of the masks of those grid points that lie inside the true mask; where
                 none does, of the grid point nearest to its centre point.
  `center`       One point per mask, its innermost pixel; the best of its outputs, as for SAM.
  `random`       One point per mask, any of its pixels, drawn from a seed; the best of the outputs.
  `box`          The tight box of the mask; its output.

All these choose by the truth. `center_ranked` and `random_ranked` do not: they score the output of
the highest predicted quality. Only masks come in; `prompted.py` asks a model for them.
"""

import dataclasses
import functools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt64
from scipy import ndimage

from uniovseg_jax.masks import box_from_mask, rle_decode
from uniovseg_jax.packed_masks import PackedMasks, packed_iou, paired_iou

MODES = ("grid_any", "grid_inside", "center", "random", "box")


@dataclasses.dataclass(frozen=True)
class TrueMasks:
    """The true masks of an image that are scored; none is empty.

    Attributes:
      masks: At the image's size.
      indices: Where each stood in the annotation.
    """

    masks: PackedMasks
    indices: Int[np.ndarray, " n"]

    @classmethod
    def from_rles(
        cls, rles: Sequence[Mapping[str, Any]], hw: tuple[int, int], min_area: float = 0.0
    ) -> "TrueMasks":
        """Decodes an annotation and drops crowds, empty masks and small ones.

        Args:
          rles: COCO run lengths, `size` and `counts`, of crowds also `iscrowd`.
          hw: Size of the image.
          min_area: Least area of a mask as a share of the image, 0..1.

        Raises:
          ValueError: If an entry is malformed or of another size.
        """
        kept, indices = [], []
        for index, rle in enumerate(rles):
            if isinstance(rle, Mapping) and rle.get("iscrowd"):
                continue
            mask = rle_decode(rle)
            if mask.shape != hw:
                raise ValueError(f"Mask {index} has size {mask.shape}, the image {hw}.")
            area = np.count_nonzero(mask)
            if area and area >= min_area * mask.size:
                kept.append(np.packbits(mask, axis=-1))
                indices.append(index)
        packed = np.array(kept, np.uint8).reshape(len(kept), hw[0], -1 if kept else -(-hw[1] // 8))
        return cls(PackedMasks.from_bytes(packed, hw[1]), np.array(indices, np.int64))

    def __len__(self) -> int:
        """Returns the number of masks."""
        return len(self.masks)

    @functools.cached_property
    def centers_xy(self) -> Float[np.ndarray, "n 2"]:
        """The `center_point` of every mask."""
        points = [center_point(self.masks.mask(index)) for index in range(len(self))]
        return np.array(points, np.float64).reshape(-1, 2)

    def random_points(self, seed: int, image_id: str) -> Float[np.ndarray, "n 2"]:
        """Draws one pixel (x, y) of every mask; it depends on no other mask and no other image."""
        points = np.zeros((len(self), 2))
        for row, index in enumerate(self.indices.tolist()):
            pixels = np.flatnonzero(self.masks.mask(row))
            rng = np.random.default_rng([seed, zlib.crc32(image_id.encode()), index])
            y, x = divmod(int(rng.choice(pixels)), self.masks.width)
            points[row] = x, y
        return points


def center_point(mask: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "2"]:
    """Returns the pixel (x, y) farthest from all outside the mask; the image's border is outside.

    Of several the first in reading order.

    Raises:
      ValueError: If the mask is empty.
    """
    x0, y0, x1, y1 = box_from_mask(mask).astype(int).tolist()
    if x1 == x0:
        raise ValueError("An empty mask has no centre point.")
    # The frame around the box is nearer than anything beyond it.
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(mask[y0:y1, x0:x1], 1)))
    y, x = np.unravel_index(np.argmax(distance), distance.shape)
    return np.array([x - 1 + x0, y - 1 + y0], np.float64)


def prompts_inside(
    truth: TrueMasks, points_xy: Float[np.ndarray, "p 2"]
) -> Bool[np.ndarray, "n p"]:
    """Returns which points count for which mask in the mode `grid_inside`.

    A point belongs to the pixel nearest to it: pixel (x, y) is the point (x, y).
    """
    height, width = truth.masks.hw
    x, y = np.floor(points_xy + 0.5).astype(int).T
    x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    inside = np.zeros((len(truth), len(points_xy)), bool)
    for row in range(len(truth)):
        inside[row] = truth.masks.mask(row)[y, x]
        if not inside[row].any():
            distance = ((points_xy - truth.centers_xy[row]) ** 2).sum(axis=1)
            inside[row, np.argmin(distance)] = True
    return inside


class BestMasks:
    """The best mask found so far for each true mask.

    Attributes:
      iou: Intersection over union, 0 as long as nothing overlaps.
      words: The best masks as words of `PackedMasks`; empty as long as nothing overlaps.
    """

    def __init__(self, truth: TrueMasks):
        self.iou = np.zeros(len(truth))
        self.words = np.zeros_like(truth.masks.words)
        self._width = truth.masks.width

    @property
    def masks(self) -> PackedMasks:
        """The best masks so far; what comes later does not change them."""
        return PackedMasks(self.words.copy(), self._width)

    def offer(self, iou: Float[np.ndarray, " n"], words: UInt64[np.ndarray, "n h words"]) -> None:
        """Takes over what is better among one more mask, as words, for every true one."""
        better = np.flatnonzero(iou > self.iou)
        self.iou[better] = iou[better]
        self.words[better] = words[better]


class GridScorer:
    """Scores the masks of a grid of points, some points at a time.

    Args:
      truth: True masks of the image.
      points_xy: The whole grid in pixels of the image, in the order in which its masks will come.
    """

    def __init__(self, truth: TrueMasks, points_xy: Float[np.ndarray, "p 2"]):
        self._truth = truth
        self._inside = prompts_inside(truth, points_xy)
        self._done = 0
        self.best = {"grid_any": BestMasks(truth), "grid_inside": BestMasks(truth)}

    def add(self, predicted: PackedMasks, quality: Float[np.ndarray, "q k"]) -> None:
        """Takes the masks of the next q points, k each; their quality decides nothing."""
        q, k = quality.shape
        iou = packed_iou(self._truth.masks, predicted)
        inside = self._inside[:, self._done : self._done + q].repeat(k, axis=1)
        self._done += q
        for mode, values in (("grid_any", iou), ("grid_inside", np.where(inside, iou, 0.0))):
            chosen = values.argmax(axis=1)
            self.best[mode].offer(values.max(axis=1), predicted.words[chosen])


class OwnPromptScorer:
    """Scores the masks of prompts of which each belongs to one true mask, some at a time.

    Args:
      truth: True masks of the image; prompt i is that of mask i.
      mode: `center`, `random` or `box`. The points' results have another, `<mode>_ranked`.
    """

    def __init__(self, truth: TrueMasks, mode: str):
        self._truth = truth
        self._done = 0
        names = [mode] if mode == "box" else [mode, f"{mode}_ranked"]
        self.best = {name: BestMasks(truth) for name in names}

    def add(self, predicted: PackedMasks, quality: Float[np.ndarray, "q k"]) -> None:
        """Takes the masks of the next q prompts, k each, and their predicted quality."""
        q, k = quality.shape
        rows = slice(self._done, self._done + q)
        of_rows = PackedMasks(self._truth.masks.words[rows], predicted.width)
        iou = paired_iou(of_rows, predicted)
        # A box has one output: no order of outputs to tell apart.
        rankings = [iou, quality][: len(self.best)]
        for best, ranking in zip(self.best.values(), rankings, strict=True):
            chosen = ranking.argmax(axis=1)
            best.iou[rows] = np.take_along_axis(iou, chosen[:, None], axis=1)[:, 0]
            best.words[rows] = predicted.words[np.arange(q) * k + chosen]
        self._done += q


class PromptableScores:
    """Accumulates the IoU of masks per mode: `add` images, `merge` other accumulators, `compute`.

    Attributes:
      totals: By mode: sum over masks, number of masks, sum over images of their mean, number of
        images that have masks.
    """

    def __init__(self) -> None:
        self.totals: dict[str, Float[np.ndarray, "4"]] = {}

    def add(self, ious: Mapping[str, Float[np.ndarray, " n"]]) -> None:
        """Counts one image: by mode the IoU of every true mask, 0..1."""
        for mode, iou in ious.items():
            if len(iou):
                self._add(mode, np.array([iou.sum(), len(iou), iou.mean(), 1.0]))

    def merge(self, other: "PromptableScores") -> None:
        """Adds the sums of another accumulator."""
        for mode, total in other.totals.items():
            self._add(mode, total)

    def compute(self) -> dict[str, dict[str, float]]:
        """Returns the means by mode.

        Returns:
          `iou`, the mean over masks, and `iou_of_images`, the mean over images with a mask of their
          own means, both 0..1; the numbers `masks` and `images`. A mode never met is not there.
        """
        return {
            mode: {
                "iou": float(iou / masks),
                "iou_of_images": float(means / images),
                "masks": int(masks),
                "images": int(images),
            }
            for mode, (iou, masks, means, images) in self.totals.items()
        }

    def _add(self, mode: str, total: Float[np.ndarray, "4"]) -> None:
        self.totals[mode] = self.totals.get(mode, np.zeros(4)) + total


def suite_means(
    parts: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Returns the plain means over the datasets of a suite, whatever their numbers of masks.

    Args:
      parts: What `PromptableScores.compute` gave, by dataset.

    Returns:
      By mode `iou` and `iou_of_images`, and over how many `datasets` they are.

    Raises:
      ValueError: If there is no dataset, or one was not scored in the modes of the others: the mean
        would be over other datasets than it says.
    """
    if not parts:
        raise ValueError("A mean over datasets needs one at least.")
    first = next(iter(parts))
    for name, scores in parts.items():
        if set(scores) != set(parts[first]):
            raise ValueError(
                f"{name} has scores for {', '.join(scores) or 'no mode'}, {first} for "
                f"{', '.join(parts[first]) or 'no mode'}; expected the same modes."
            )
    return {
        mode: {
            "iou": float(np.mean([scores[mode]["iou"] for scores in parts.values()])),
            "iou_of_images": float(
                np.mean([scores[mode]["iou_of_images"] for scores in parts.values()])
            ),
            "datasets": len(parts),
        }
        for mode in parts[first]
    }
