"""Scoring one image on one task, and adding up the images; one class per task.

What an image gives is plain JSON, so that it can be kept and added up later, by whichever process.
The sums are made in the order of the images, so that they do not depend on who did what when.
"""

import abc
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from uniovseg_jax.benchmarks.benchmark import Benchmark, LabelMap, TrueInstance
from uniovseg_jax.benchmarks.class_list import ClassList
from uniovseg_jax.benchmarks.segment import Segment, paint_classes
from uniovseg_jax.eval.metrics.instance import InstanceScores, PredictedInstance
from uniovseg_jax.eval.metrics.panoptic import PanopticScores
from uniovseg_jax.eval.metrics.semantic import SemanticScores
from uniovseg_jax.eval.prediction_files import PredictionFiles
from uniovseg_jax.eval.stopwatch import Stopwatch
from uniovseg_jax.inference.merge import rank_instances
from uniovseg_jax.inference.results import merge_panoptic, merge_semantic
from uniovseg_jax.inference.segmenter import ImageProposals, OpenVocabularySegmenter
from uniovseg_jax.masks import rle_area, rle_decode, rle_encode

Counters = Any


class NamedTask(abc.ABC):
    """A task that is scored with words.

    Attributes:
      name: `semantic`, `panoptic` or `instance`.
      headline: The metric that the running score shows.
    """

    name: str
    headline: str

    def __init__(
        self, benchmark: Benchmark, classes: ClassList, files: PredictionFiles | None = None
    ):
        self._benchmark, self._classes, self._files = benchmark, classes, files

    @abc.abstractmethod
    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the truth of an image, and its height and width where the truth tells."""

    @abc.abstractmethod
    def predict(self, segmenter: OpenVocabularySegmenter, proposals: ImageProposals) -> Any:
        """Names and merges proposals."""

    @abc.abstractmethod
    def write(self, files: PredictionFiles, image_id: str, predicted: Any) -> None:
        """Keeps a prediction as a file."""

    @abc.abstractmethod
    def count(self, image_id: str, predicted: Any, truth: Any) -> tuple[Counters, float]:
        """Returns counters of an image as JSON, and how well it went, 0..1, NaN for unscored."""

    @abc.abstractmethod
    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images: fractions in 0..1, `all` and `per_class` as the scores give them."""

    def notes(self, counters: Sequence[Counters]) -> list[str]:
        """Returns what is to be said of the truth, in sentences."""
        del counters
        return []

    @abc.abstractmethod
    def paint(self, truth: Any, predicted: Any, hw: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel, -1 for void, in truth and as predicted."""

    def score(
        self,
        image_id: str,
        truth: Any,
        segmenter: OpenVocabularySegmenter,
        proposals: ImageProposals,
        watch: Stopwatch,
    ) -> tuple[Counters, float]:
        """Predicts an image and returns what `count` does of it."""
        with watch("merge"):
            predicted = self.predict(segmenter, proposals)
        if self._files is not None:
            with watch("write"):
                self.write(self._files, image_id, predicted)
        with watch("metric"):
            return self.count(image_id, predicted, truth)

    def maps(
        self, truth: Any, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, LabelMap]:
        """Returns the class of every pixel, -1 for void, in truth and as predicted, to be drawn."""
        return self.paint(truth, self.predict(segmenter, proposals), proposals.masks.image_hw)


class SemanticTask(NamedTask):
    """mIoU and its kin; an image goes as well as its own mIoU."""

    name, headline = "semantic", "miou"

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the map of classes."""
        assert self._benchmark.read_semantic is not None
        labels = self._benchmark.read_semantic(image_id)
        return labels, (labels.shape[0], labels.shape[1])

    def predict(self, segmenter: OpenVocabularySegmenter, proposals: ImageProposals) -> LabelMap:
        """Returns the index of the class that is scored, -1 for void."""
        classes = merge_semantic(segmenter.name(proposals, "semantic"), segmenter.config.semantic)
        folded, void = self._benchmark.folded, self._benchmark.void_class
        if folded is not None:
            classes = np.where(classes >= 0, folded[np.maximum(classes, 0)], -1)
        if void is not None:
            classes = np.where(classes >= 0, classes, void)
        return classes.astype(np.int32)

    def write(self, files: PredictionFiles, image_id: str, predicted: LabelMap) -> None:
        """Keeps the map of classes."""
        files.write_semantic(image_id, predicted)

    def count(self, image_id: str, predicted: LabelMap, truth: LabelMap) -> tuple[Counters, float]:
        """Counts pixels."""
        del image_id
        scores = SemanticScores(len(self._classes))
        scores.add(predicted, truth)
        return scores.counters(), scores.compute()["miou"]

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        count = len(self._classes)
        scores = SemanticScores(count)
        for image in counters:
            scores.merge(SemanticScores.from_counters(count, image))
        found = scores.compute()
        return {"all": found, "per_class": {"iou": found.pop("iou")}}

    def paint(self, truth: Any, predicted: Any, hw: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
        """Returns both as they are."""
        del hw
        return truth, predicted


class PanopticTask(NamedTask):
    """PQ, SQ and RQ; an image goes as well as its own PQ."""

    name, headline = "panoptic", "pq"

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the map of segments and the segments."""
        assert self._benchmark.read_panoptic is not None
        ids, segments = self._benchmark.read_panoptic(image_id)
        return (ids, segments), (ids.shape[0], ids.shape[1])

    def predict(
        self, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> tuple[LabelMap, list[Segment]]:
        """Returns a map of segments and the segments."""
        named = segmenter.name(proposals, "panoptic")
        ids, merged = merge_panoptic(named, segmenter.config.overlap_threshold)
        return ids, [Segment(s.id, s.category) for s in merged]

    def write(self, files: PredictionFiles, image_id: str, predicted: Any) -> None:
        """Keeps the map and its entry in the list."""
        files.write_panoptic(image_id, *predicted)

    def count(self, image_id: str, predicted: Any, truth: Any) -> tuple[Counters, float]:
        """Counts segments."""
        del image_id
        scores = PanopticScores(self._classes.is_thing)
        scores.add(*predicted, *truth)
        return scores.counters(), scores.compute()["all"]["pq"]

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        return self._added(counters).compute()

    def notes(self, counters: Sequence[Counters]) -> list[str]:
        """Says how many segments of the truth state a wrong area."""
        return list(self._added(counters).notes())

    def _added(self, counters: Iterable[Counters]) -> PanopticScores:
        is_thing = self._classes.is_thing
        scores = PanopticScores(is_thing)
        for image in counters:
            scores.merge(PanopticScores.from_counters(is_thing, image))
        return scores

    def paint(self, truth: Any, predicted: Any, hw: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
        """Returns the classes of the segments, whose ends are lost."""
        del hw
        return paint_classes(*truth), paint_classes(*predicted)


class InstanceTask(NamedTask):
    """Mask AP; one image says little about it, so that images are not ranked."""

    name, headline = "instance", "ap"

    def truth(self, image_id: str) -> tuple[Any, tuple[int, int] | None]:
        """Reads the objects."""
        assert self._benchmark.read_instances is not None
        found = self._benchmark.read_instances(image_id)
        size = found[0].rle["size"] if found else None
        return found, (size[0], size[1]) if size else None

    def predict(
        self, segmenter: OpenVocabularySegmenter, proposals: ImageProposals
    ) -> list[PredictedInstance]:
        """Returns the objects, best first."""
        named, limit = segmenter.name(proposals, "instance"), segmenter.config.max_instances
        ranked = rank_instances(named.probs, named.is_thing, named.masks, limit)
        # A mask may stand under several classes.
        rles = {mask: rle_encode(r.pixels) for mask, r in {r.mask: r for r in ranked}.items()}
        return [PredictedInstance(rles[r.mask], r.category, r.score) for r in ranked]

    def write(self, files: PredictionFiles, image_id: str, predicted: Any) -> None:
        """Keeps the objects."""
        files.write_instances(image_id, predicted)

    def count(self, image_id: str, predicted: Any, truth: Any) -> tuple[Counters, float]:
        """Matches objects."""
        scores = InstanceScores(len(self._classes))
        scores.add(image_id, predicted, truth)
        return scores.counters(), float("nan")

    def total(self, counters: Iterable[Counters]) -> dict[str, Any]:
        """Adds up images."""
        rows = [row for image in counters for row in image]
        return InstanceScores.from_counters(len(self._classes), rows).compute()

    def paint(self, truth: Any, predicted: Any, hw: tuple[int, int]) -> tuple[LabelMap, LabelMap]:
        """Returns the classes of the objects, small true ones and the surest predicted on top."""
        true = sorted(truth, key=lambda instance: -rle_area(instance.rle))
        return _paint_objects(true, hw), _paint_objects(predicted[::-1], hw)


NAMED_TASKS: dict[str, type[NamedTask]] = {
    task.name: task for task in (SemanticTask, PanopticTask, InstanceTask)
}


def _paint_objects(
    objects: Sequence[TrueInstance | PredictedInstance], hw: tuple[int, int]
) -> LabelMap:
    """Returns the class of every pixel; later objects cover earlier ones."""
    classes = np.full(hw, -1, np.int32)
    for instance in objects:
        classes[rle_decode(instance.rle)] = instance.category
    return classes
