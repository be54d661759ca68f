"""From scored masks to one label map: semantic, panoptic and instance merging.

All three work at the image's own size and on the host, because the number of masks and the size of
the image vary. Source: Mask2Former and FC-CLIP, with the quality of a mask in the place that the
released Uni-OVSeg code gives it.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, UInt8

from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.packed_masks import PackedMasks, packed_iou

# Bounds are compared with this much to spare: more than rounding moves a probability that is not 0.
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
      probs: Class probabilities of every mask, or those times a weight of the mask; 0 or more.
      logits: The masks.
      fill: Whether pixels under no mask (no logit of 0 or more), void otherwise, get a class too.
      min_share: A pixel whose class has less than this share of the sums of all classes is void.
    """
    classes = np.full(logits.image_hw, -1, np.int32)
    weights = np.ascontiguousarray(probs, np.float32)
    for tile in logits.tiles():
        values = tile.logits()
        covered = None if fill else (values >= 0).any(axis=-1)
        best = _best_classes(_sigmoid(values).reshape(-1, len(logits)), weights, min_share)
        best = best.reshape(values.shape[:2])
        classes[tile.rows, tile.columns] = best if covered is None else np.where(covered, best, -1)
    return classes


def _best_classes(
    mask_probs: Float[np.ndarray, "p n"], weights: Float[np.ndarray, "n t"], min_share: float
) -> Int[np.ndarray, " p"]:
    """Returns the class with the largest sum at every pixel, -1 where its share is too small.

    Of pixels that lie together the masks have similar probabilities. A class whose sum is smaller
    with the largest of them than that of another with the smallest is the best one at no pixel, and
    is left out: of hundreds of classes some are left.
    """
    most = mask_probs.max(axis=0) @ weights
    least = (mask_probs.min(axis=0) @ weights).max()
    kept = np.flatnonzero(most >= (1 - _MARGIN) * least)
    sums = mask_probs @ weights[:, kept]
    best = kept[np.argmax(sums, axis=1)]
    if min_share:
        best[sums.max(axis=1) < min_share * (mask_probs @ weights.sum(axis=1))] = -1
    return best


def _sigmoid(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Overwrites logits with probabilities; several times quicker than scipy's expit."""
    np.negative(logits, out=logits)
    with np.errstate(over="ignore"):  # Infinity becomes the probability 0.
        np.exp(logits, out=logits)
    logits += 1
    return np.reciprocal(logits, out=logits)


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
      weights: Rank of every mask, such as class probability times quality; 0 or more.
      is_thing: Whether a class has instances.
      logits: The masks.
      overlap_threshold: Least ratio of owned to covered pixels; owned ones count anywhere, so the
        ratio can exceed 1.
    """
    count = len(logits)
    # Masks get int32 numbers with `count` for pixels that their owner does not cover.
    owner = np.full(logits.image_hw, count, np.int32)
    owned, covered = np.zeros(count, np.int64), np.zeros(count, np.int64)
    ranks = weights.astype(np.float32)
    for tile in logits.tiles():
        # Masks that may own a pixel here, or cover one. All others have no part in it.
        least, most = ranks * _sigmoid(tile.least.copy()), ranks * _sigmoid(tile.most.copy())
        here = np.flatnonzero((most >= (1 - _MARGIN) * least.max()) | (tile.most >= 0))
        values = tile.logits(here)
        covers = values >= 0
        covered[here] += np.count_nonzero(covers, axis=(0, 1))
        best = np.argmax(_sigmoid(values) * ranks[here], axis=-1)
        owned[here] += np.bincount(best.ravel(), minlength=len(here))
        inside = np.take_along_axis(covers, best[..., None], axis=-1)[..., 0]
        owner[tile.rows, tile.columns] = np.where(inside, here[best], count)
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
    things = is_thing[categories]
    masks, categories = masks[things], categories[things]
    # Of every mask once, since it has to be brought to the image's size for it.
    wanted, places = np.unique(masks, return_inverse=True)
    factors, packed = _foreground(logits.select(wanted))
    scores = probs[masks, categories] * factors[places]
    order = [i for i in np.argsort(-scores, kind="stable").tolist() if scores[i] > 0]
    width = logits.image_hw[1]
    return [
        Instance(int(masks[i]), int(categories[i]), float(scores[i]), packed[places[i]], width)
        for i in order
    ]


def _foreground(
    logits: FullSizeLogits,
) -> tuple[Float[np.ndarray, " n"], UInt8[np.ndarray, "n h w8"]]:
    """Returns the mean probability of the pixels of every mask (logit > 0), and those as bits."""
    height, width = logits.image_hw
    sums, areas = np.zeros(len(logits)), np.zeros(len(logits), np.int64)
    packed = np.zeros((len(logits), height, -(-width // 8)), np.uint8)
    for tile in logits.tiles():
        here = np.flatnonzero(tile.most > 0)
        if not len(here):
            continue
        values = tile.logits(here)
        inside = values > 0
        areas[here] += np.count_nonzero(inside, axis=(0, 1))
        sums[here] += (_sigmoid(values) * inside).sum(axis=(0, 1), dtype=np.float64)
        tile.put_bits(packed, here, inside)
    return sums / np.maximum(areas, 1), packed


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
