"""Scoring one image on one task, and adding up the images; one class per task.

What an image gives is plain JSON, so that it can be kept and added up later, by whichever process.
The sums are made in the order of the images, so that they do not depend on who did what when.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int32

from uniovseg_jax.benchmarks.benchmark import Benchmark, LabelMap
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.eval.instance import InstanceScores, PredictedInstance
from uniovseg_jax.eval.panoptic import VOID_ID, PanopticScores, Segment
from uniovseg_jax.eval.prediction_files import PredictionFiles
from uniovseg_jax.eval.semantic import SemanticScores
from uniovseg_jax.eval.stopwatch import Stopwatch
from uniovseg_jax.inference.merge import rank_instances
from uniovseg_jax.inference.results import merge_panoptic, merge_semantic
from uniovseg_jax.inference.segmenter import ImageProposals, OpenVocabularySegmenter
from uniovseg_jax.masks import rle_decode, rle_encode

Counters = Any


@runtime_checkable
class NamedTask(Protocol):
    """A task that is scored with words.

    Attributes:
      name: `semantic`, `panoptic` or `instance`.
      headline: The metric that the running score shows.
    """

    name: str
    headline: str

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the truth of an image, and its height and width where the truth tells."""
        ...

    def score(
        self,
        image_id: str,
        truth: Any,
        segmenter: OpenVocabularySegmenter,
        proposals: ImageProposals,
        watch: Stopwatch,
    ) -> tuple[Counters, float]:
        """Returns counters of an image as JSON, and how well it went, 0..1, NaN for unscored."""
        ...

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images: fractions in 0..1, `all` and `per_class` as the scores give them."""
        ...

    def maps(
        self, truth: Any, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel, -1 for void, in truth and as predicted, to be drawn."""
        ...


class SemanticTask:
    """mIoU and its kin."""

    name, headline = "semantic", "miou"

    def __init__(
        self, benchmark: Benchmark, classes: ClassList, files: PredictionFiles | None = None
    ):
        self._files = files
        self._benchmark, self._count = benchmark, len(classes)

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the map of classes."""
        assert self._benchmark.read_semantic is not None
        labels = self._benchmark.read_semantic(image_id)
        return labels, (labels.shape[0], labels.shape[1])

    def predict(
        self, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> Int32[np.ndarray, "h w"]:
        """Returns the index of the class that is scored, -1 for void."""
        classes = merge_semantic(segmenter.name(proposals, "semantic"), segmenter.config.semantic)
        folded, void = self._benchmark.folded, self._benchmark.void_class
        if folded is not None:
            classes = np.where(classes >= 0, folded[np.maximum(classes, 0)], -1)
        return classes if void is None else np.where(classes >= 0, classes, void)

    def score(
        self,
        image_id: str,
        truth: Int32[np.ndarray, "h w"],
        segmenter: OpenVocabularySegmenter,
        proposals: ImageProposals,
        watch: Stopwatch,
    ) -> tuple[Counters, float]:
        """Scores an image; it went as well as its own mIoU."""
        with watch("merge"):
            predicted = self.predict(segmenter, proposals)
        if self._files is not None:
            with watch("write"):
                self._files.write_semantic(image_id, predicted)
        with watch("metric"):
            scores = SemanticScores(self._count)
            scores.add(predicted.astype(np.int32), truth)
            return scores.counters(), scores.compute()["miou"]

    def maps(
        self, truth: Any, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel in truth and as predicted."""
        return truth, self.predict(segmenter, proposals)

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        scores = SemanticScores(self._count)
        for image in counters:
            scores.merge(SemanticScores.from_counters(self._count, image))
        found = scores.compute()
        return {"all": found, "per_class": {"iou": found.pop("iou")}}


class PanopticTask:
    """PQ, SQ and RQ."""

    name, headline = "panoptic", "pq"

    def __init__(
        self, benchmark: Benchmark, classes: ClassList, files: PredictionFiles | None = None
    ):
        self._files = files
        self._benchmark, self._is_thing = benchmark, classes.is_thing

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the map of segments and the segments."""
        assert self._benchmark.read_panoptic is not None
        ids, segments = self._benchmark.read_panoptic(image_id)
        return (ids, segments), (ids.shape[0], ids.shape[1])

    def score(
        self,
        image_id: str,
        truth: Any,
        segmenter: OpenVocabularySegmenter,
        proposals: ImageProposals,
        watch: Stopwatch,
    ) -> tuple[Counters, float]:
        """Scores an image; it went as well as its own PQ."""
        with watch("merge"):
            named = segmenter.name(proposals, "panoptic")
            ids, merged = merge_panoptic(named, segmenter.config.overlap_threshold)
            segments = [Segment(s.id, s.category) for s in merged]
        if self._files is not None:
            with watch("write"):
                self._files.write_panoptic(image_id, ids, segments)
        with watch("metric"):
            scores = PanopticScores(self._is_thing)
            scores.add(ids, segments, *truth)
            return scores.counters(), scores.compute()["all"]["pq"]

    def maps(
        self, truth: Any, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel in truth and as predicted; segments lose their ends."""
        named = segmenter.name(proposals, "panoptic")
        ids, merged = merge_panoptic(named, segmenter.config.overlap_threshold)
        segments = [Segment(s.id, s.category) for s in merged]
        return _paint(*truth), _paint(ids, segments)

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        scores = PanopticScores(self._is_thing)
        for image in counters:
            scores.merge(PanopticScores.from_counters(self._is_thing, image))
        return scores.compute()


class InstanceTask:
    """Mask AP."""

    name, headline = "instance", "ap"

    def __init__(
        self, benchmark: Benchmark, classes: ClassList, files: PredictionFiles | None = None
    ):
        self._files = files
        self._benchmark, self._count = benchmark, len(classes)

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the objects."""
        assert self._benchmark.read_instances is not None
        found = self._benchmark.read_instances(image_id)
        size = found[0].rle["size"] if found else None
        return found, (size[0], size[1]) if size else None

    def score(
        self,
        image_id: str,
        truth: Any,
        segmenter: OpenVocabularySegmenter,
        proposals: ImageProposals,
        watch: Stopwatch,
    ) -> tuple[Counters, float]:
        """Scores an image; one image says little about AP, so that it is not ranked."""
        with watch("merge"):
            named, limit = segmenter.name(proposals, "instance"), segmenter.config.max_instances
            ranked = rank_instances(named.probs, named.is_thing, named.masks, limit)
            rles = {
                mask: rle_encode(named.masks.mask(mask) > 0) for mask in {r.mask for r in ranked}
            }
            predicted = [PredictedInstance(rles[r.mask], r.category, r.score) for r in ranked]
        if self._files is not None:
            with watch("write"):
                self._files.write_instances(image_id, predicted)
        with watch("metric"):
            scores = InstanceScores(self._count)
            scores.add(image_id, predicted, truth)
            return scores.counters(), float("nan")

    def maps(
        self, truth: Any, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel as true and as predicted, small and sure ones on top."""
        named, limit = segmenter.name(proposals, "instance"), segmenter.config.max_instances
        found = rank_instances(named.probs, named.is_thing, named.masks, limit)
        true = [(rle_decode(instance.rle), instance.category) for instance in truth]
        true.sort(key=lambda pair: -np.count_nonzero(pair[0]))
        guess = [(named.masks.mask(i.mask) > 0, i.category) for i in reversed(found)]
        hw = named.masks.image_hw
        return _paint_masks(true, hw), _paint_masks(guess, hw)

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        rows = [row for image in counters for row in image]
        return InstanceScores.from_counters(self._count, rows).compute()


NAMED_TASKS: dict[str, type[SemanticTask] | type[PanopticTask] | type[InstanceTask]] = {
    task.name: task for task in (SemanticTask, PanopticTask, InstanceTask)
}


def _paint(ids: LabelMap, segments: Sequence[Segment]) -> LabelMap:
    """Returns the class of every pixel of a map of segments."""
    known = np.array([VOID_ID, *(segment.id for segment in segments)])
    classes = np.array([-1, *(segment.category for segment in segments)], np.int32)
    order = np.argsort(known)
    return classes[order][np.searchsorted(known[order], ids)]


def _paint_masks(
    masks: Sequence[tuple[Bool[np.ndarray, "h w"], int]], hw: tuple[int, int]
) -> LabelMap:
    """Returns the class of every pixel; later masks cover earlier ones."""
    classes = np.full(hw, -1, np.int32)
    for mask, category in masks:
        classes[mask] = category
    return classes
