"""From scored masks to one label map: semantic, panoptic and instance merging.

All three work at the image's own size and on the host, because the number of masks and the size of
the image vary. Source: Mask2Former and FC-CLIP, with the quality of a mask in the place that the
released Uni-OVSeg code gives it.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8
from scipy.special import expit

from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.packed_masks import PackedMasks, packed_iou

# Side of the squares of pixels that classes are left out for together.
_TILE = 32
_MARGIN = 1e-4


def semantic_map(
    probs: Float[np.ndarray, "n t"],
    logits: FullSizeLogits,
    fill: bool = False,
    min_share: float = 0.0,
) -> Int32[np.ndarray, "h w"]:
    """Returns the class of every pixel, or -1 for void.

    A pixel goes to the class with the largest sum of p_n(class) * sigmoid(mask_n).

    Args:
      probs: Class probabilities of every mask, or those times a weight of the mask.
      logits: The masks.
      fill: Whether pixels under no mask (no logit of 0 or more), void otherwise, get a class too.
      min_share: A pixel whose class has less than this share of the sums of all classes is void.
    """
    classes = np.full(logits.image_hw, -1, np.int32)
    if not len(logits):
        return classes
    weights = np.ascontiguousarray(probs, np.float32)
    for rows, block in logits.row_blocks():
        covered = None if fill else (block >= 0).any(axis=0)
        mask_probs = _sigmoid(block)
        out = classes[rows]
        for top in range(0, block.shape[1], _TILE):
            for left in range(0, block.shape[2], _TILE):
                part = np.s_[top : top + _TILE, left : left + _TILE]
                tile = mask_probs[:, *part]
                best = _best_classes(tile.reshape(len(logits), -1), weights, min_share)
                out[part] = best.reshape(tile.shape[1:])
        if covered is not None:
            out[~covered] = -1
    return classes


def _best_classes(
    mask_probs: Float[np.ndarray, "n p"], weights: Float[np.ndarray, "n t"], min_share: float
) -> Int[np.ndarray, " p"]:
    """Returns the class with the largest sum at every pixel, -1 where its share is too small.

    Of pixels that lie together the masks have similar probabilities. A class whose sum is smaller
    with the largest of them than that of another with the smallest is the best one at no pixel, and
    is left out: of hundreds of classes some are left. Rounding is a thousand times finer than the
    margin.
    """
    most = mask_probs.max(axis=1) @ weights
    least = (mask_probs.min(axis=1) @ weights).max()
    kept = np.flatnonzero(most >= (1 - _MARGIN) * least)
    # The classes of a pixel lie side by side: several times quicker to compare.
    sums = mask_probs.T @ weights[:, kept]
    best = kept[np.argmax(sums, axis=1)]
    if min_share:
        best[sums.max(axis=1) < min_share * (mask_probs.T @ weights.sum(axis=1))] = -1
    return best


def _sigmoid(block: Float[np.ndarray, "n r w"]) -> Float[np.ndarray, "n r w"]:
    """Overwrites logits with probabilities; several times quicker than scipy's expit."""
    np.negative(block, out=block)
    with np.errstate(over="ignore"):  # Infinity becomes the probability 0.
        np.exp(block, out=block)
    block += 1
    return np.reciprocal(block, out=block)


@dataclasses.dataclass(frozen=True)
class PanopticSegment:
    """One segment of a panoptic map.

    Attributes:
      id: Value in the map, from 1.
      category: Index of the class.
      masks: Indices of the masks that it was made of, best first; more than one only for stuff.
    """

    id: int
    category: int
    masks: tuple[int, ...]


def panoptic_map(
    labels: Int[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    is_thing: Bool[np.ndarray, " t"],
    logits: FullSizeLogits,
    overlap_threshold: float,
) -> tuple[Int32[np.ndarray, "h w"], list[PanopticSegment]]:
    """Gives every pixel to one segment, or to none (0).

    A pixel belongs to the mask with the largest weight * sigmoid(mask). A mask becomes a segment
    when it owns at least `overlap_threshold` of the pixels that it covers (sigmoid >= 0.5); the
    segment is what it both owns and covers. All segments of one stuff class are one segment.

    Args:
      labels: Class of every mask.
      weights: Rank of every mask, such as class probability times quality.
      is_thing: Whether a class has instances.
      logits: The masks.
      overlap_threshold: Least ratio of owned to covered pixels; owned ones count anywhere, so the
        ratio can exceed 1.
    """
    count = len(logits)
    # Masks get int32 numbers with `count` for pixels that their owner does not cover.
    owner = np.full(logits.image_hw, count, np.int32)
    owned, covered = np.zeros(count, np.int64), np.zeros(count, np.int64)
    if count:
        for rows, block in logits.row_blocks():
            covers = block >= 0
            covered += np.count_nonzero(covers, axis=(1, 2))
            ranks = _sigmoid(block)
            ranks *= weights[:, None, None].astype(np.float32)
            best = np.argmax(ranks, axis=0)
            owned += np.bincount(best.ravel(), minlength=count)
            inside = np.take_along_axis(covers, best[None], axis=0)[0]
            owner[rows] = np.where(inside, best, count)
    final = np.bincount(owner.ravel(), minlength=count + 1)[:count]

    ids = np.zeros(count + 1, np.int32)
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}
    for mask in np.argsort(-weights, kind="stable").tolist():
        if not final[mask] or owned[mask] < overlap_threshold * covered[mask]:
            continue
        category = int(labels[mask])
        if category in stuff:
            place = stuff[category]
            earlier = segments[place]
            segments[place] = dataclasses.replace(earlier, masks=(*earlier.masks, mask))
        else:
            place = len(segments)
            segments.append(PanopticSegment(place + 1, category, (mask,)))
            if not is_thing[category]:
                stuff[category] = place
        ids[mask] = place + 1
    return ids[owner], segments


@dataclasses.dataclass(frozen=True)
class Instance:
    """One scored pair of a mask and a class.

    Attributes:
      mask: Index of the mask.
      category: Index of the class.
      score: Class probability times the mask's mean foreground probability, 0..1.
      packed: The pixels of the image with a logit over 0, eight in a byte of a row.
      width: Of the image.
    """

    mask: int
    category: int
    score: float
    packed: UInt8[np.ndarray, "h w8"]
    width: int

    @property
    def pixels(self) -> Bool[np.ndarray, "h w"]:
        """The mask at the image's size."""
        return np.unpackbits(self.packed, axis=-1, count=self.width).astype(bool)


def rank_instances(
    probs: Float[np.ndarray, "n t"],
    is_thing: Bool[np.ndarray, " t"],
    logits: FullSizeLogits,
    limit: int,
) -> list[Instance]:
    """Returns the pairs of mask and thing class with the highest scores, best first.

    The `limit` most probable pairs are taken, then those of stuff classes and those whose mask
    (logit > 0) is empty at the image's size are dropped, then scores get their mask factor.
    """
    flat = probs.ravel()
    best = np.argsort(-flat, kind="stable")[:limit]
    masks, categories = np.unravel_index(best, probs.shape)
    # Of every mask once, since it has to be brought to the image's size for it.
    factors: dict[int, tuple[float, UInt8[np.ndarray, "h w8"]]] = {}
    instances = []
    for mask, category in zip(masks.tolist(), categories.tolist(), strict=True):
        if not is_thing[category]:
            continue
        if mask not in factors:
            values = logits.mask(mask)
            inside = values > 0
            values = expit(values[inside])
            factor = float(values.sum(dtype=np.float64) / max(values.size, 1))
            factors[mask] = factor, np.packbits(inside, axis=-1)
        factor, packed = factors[mask]
        score = float(probs[mask, category]) * factor
        if score > 0:
            instances.append(Instance(mask, category, score, packed, logits.image_hw[1]))
    return sorted(instances, key=lambda instance: -instance.score)


def whole_masks(
    masks: PackedMasks, labels: Int[np.ndarray, " n"], contained: float
) -> Int[np.ndarray, " kept"]:
    """Drops parts: masks that lie mostly inside a larger mask of the same class that is kept.

    Args:
      masks: At one size.
      labels: Class of every mask.
      contained: Share of its pixels inside the larger one from which a mask is its part.

    Returns:
      Indices of the others, in their order. Of two masks of one size the first is the larger.
    """
    iou, areas = packed_iou(masks, masks), masks.areas
    inside = iou * (areas[:, None] + areas[None]) / (1 + iou) / np.maximum(areas, 1)[:, None]
    kept: list[int] = []
    for index in np.argsort(-areas, kind="stable").tolist():
        larger = [other for other in kept if labels[other] == labels[index]]
        # Intersections come from a ratio, so that they are whole numbers but for rounding.
        if not larger or inside[index, larger].max() < contained - 1e-9:
            kept.append(index)
    return np.sort(np.array(kept, np.int64))
