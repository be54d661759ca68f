"""Named segments: what merging gives, with names, scores, boxes and run lengths."""

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int32
from scipy import ndimage

from uniovseg_jax.inference.full_size import FullSizeLogits
from uniovseg_jax.inference.merge import (
    PanopticSegment,
    panoptic_map,
    rank_instances,
    semantic_map,
)
from uniovseg_jax.masks import box_from_mask, rle_encode
from uniovseg_jax.vocabulary import Vocabulary

Task = Literal["semantic", "panoptic", "instance"]
TASKS: tuple[Task, ...] = ("semantic", "panoptic", "instance")


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment of a result.

    Attributes:
      id: Value in the label map, from 1.
      name: First name of the category.
      is_thing: Whether it is an instance of a thing.
      score: Class probability, in instance results times the mask's mean foreground probability.
      quality: Predicted quality of the (best) mask.
      runner_up: Second most probable category of that mask; None with one category.
      runner_up_score: Its probability.
      area: Number of pixels.
      bbox: x, y, width, height in pixels.
      rle: COCO run lengths.
    """

    id: int
    name: str
    is_thing: bool
    score: float
    quality: float
    runner_up: str | None
    runner_up_score: float | None
    area: int
    bbox: tuple[int, int, int, int]
    rle: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """The result for one image, at the image's own size.

    Attributes:
      task: What was asked for.
      label_map: 0 is void. `semantic`: index of the category + 1; `panoptic`: id of the segment;
        `instance`: id of the best-scored instance there.
      segments: `semantic`: one per category that occurs; `panoptic` and `instance`: best first.
        Only instances may overlap.
    """

    task: Task
    label_map: Int32[np.ndarray, "h w"]
    segments: tuple[Segment, ...]


@dataclasses.dataclass(frozen=True)
class NamedMasks:
    """Masks with their class probabilities, ready to be merged.

    Attributes:
      vocabulary: The classes.
      masks: The masks' logits.
      probs: Class probabilities of every mask, background included.
      scores: Predicted quality of every mask, 0..1.
    """

    vocabulary: Vocabulary
    masks: FullSizeLogits
    probs: Float[np.ndarray, "n t"]
    scores: Float[np.ndarray, " n"]

    @property
    def is_thing(self) -> Bool[np.ndarray, " t"]:
        """Whether a class has instances."""
        return np.array([category.is_thing for category in self.vocabulary.categories])

    def describe(
        self,
        id: int,
        category: int,
        mask: int,
        binary: Bool[np.ndarray, "h w"],
        box: tuple[slice, slice],
    ) -> Segment:
        """Returns the segment `binary`, non-empty and inside `box`, with the names of one mask."""
        probs = self.probs[mask].copy()
        score, probs[category] = float(probs[category]), -1
        other = int(np.argmax(probs)) if len(probs) > 1 else None
        rows, columns = box
        return Segment(
            id=id,
            name=self.vocabulary.categories[category].label,
            is_thing=self.vocabulary.categories[category].is_thing,
            score=score,
            quality=float(self.scores[mask]),
            runner_up=None if other is None else self.vocabulary.categories[other].label,
            runner_up_score=None if other is None else float(probs[other]),
            area=int(np.count_nonzero(binary[box])),
            bbox=(columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start),
            rle=rle_encode(binary),
        )


@dataclasses.dataclass(frozen=True)
class SemanticRules:
    """How semantic results are merged; the defaults are those of the released Uni-OVSeg code.

    Attributes:
      fill: Whether pixels that no mask covers get a class too.
      weigh_by_quality: Whether masks count by their predicted quality.
      min_share: See `merge.semantic_map`.
    """

    fill: bool = False
    weigh_by_quality: bool = False
    min_share: float = 0.0


def semantic_result(named: NamedMasks, rules: SemanticRules | None = None) -> Segmentation:
    """Merges by summed class probabilities; one segment per category that occurs."""
    label_map = merge_semantic(named, rules or SemanticRules()) + 1
    # The category's best mask speaks for the segment.
    segments = [
        named.describe(
            label, label - 1, int(np.argmax(named.probs[:, label - 1])), label_map == label, box
        )
        for label, box in enumerate(ndimage.find_objects(label_map), start=1)
        if box is not None
    ]
    return Segmentation("semantic", label_map, tuple(segments))


def merge_semantic(named: NamedMasks, rules: SemanticRules) -> Int32[np.ndarray, "h w"]:
    """Returns the category of every pixel, -1 for void and background."""
    probs = named.probs
    if rules.weigh_by_quality:
        probs = probs * named.scores[:, None]
    classes = semantic_map(probs, named.masks, rules.fill, rules.min_share)
    classes[classes >= named.vocabulary.num_foreground] = -1
    return classes


def panoptic_result(named: NamedMasks, overlap_threshold: float) -> Segmentation:
    """Gives every pixel to one segment; masks rank by class probability times quality."""
    label_map, merged = merge_panoptic(named, overlap_threshold)
    boxes = ndimage.find_objects(label_map)
    segments = [
        named.describe(segment.id, segment.category, segment.masks[0], label_map == segment.id, box)
        for segment, box in zip(merged, boxes, strict=True)
    ]
    return Segmentation("panoptic", label_map, tuple(segments))


def merge_panoptic(
    named: NamedMasks, overlap_threshold: float
) -> tuple[Int32[np.ndarray, "h w"], list[PanopticSegment]]:
    """Returns a map of segments, 0 is void, and the segments 1, 2, ...; no background."""
    labels = named.probs.argmax(axis=1) if len(named.probs) else np.zeros(0, np.int64)
    weights = named.probs.max(axis=1, initial=0) * named.scores
    ids, merged = panoptic_map(labels, weights, named.is_thing, named.masks, overlap_threshold)
    merged = [s for s in merged if s.category < named.vocabulary.num_foreground]
    renumber = np.zeros(ids.max(initial=0) + 1, np.int32)
    renumber[[segment.id for segment in merged]] = np.arange(1, len(merged) + 1)
    merged = [dataclasses.replace(s, id=number) for number, s in enumerate(merged, start=1)]
    return renumber[ids], merged


def instance_result(named: NamedMasks, limit: int) -> Segmentation:
    """Ranks pairs of mask and thing class; instances may overlap."""
    label_map = np.zeros(named.masks.image_hw, np.int32)
    segments = []
    for id, found in enumerate(rank_instances(named.probs, named.is_thing, named.masks, limit), 1):
        binary = found.pixels
        x0, y0, x1, y1 = box_from_mask(binary).astype(int).tolist()
        segment = named.describe(
            id, found.category, found.mask, binary, (slice(y0, y1), slice(x0, x1))
        )
        segments.append(dataclasses.replace(segment, score=found.score))
        label_map[(label_map == 0) & binary] = id
    return Segmentation("instance", label_map, tuple(segments))
